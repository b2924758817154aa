// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cycle

import (
	"math"
	"slices"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Fit says whether a pod fits on what it sees of a node, and how good its best allocation there is, 0 to 100. What was
// found out for a pod that asks for the same, such as the last replica of its Deployment, is not worked out again
// as long as the node looks the same.
func (s *State) Fit(view *gpustate.View) gpustate.Fit {
	if view.Reason != "" {
		return gpustate.Fit{}
	}
	if known, ok := view.Fit(s.Shape); ok {
		return known
	}
	var f gpustate.Fit
	if view.Outlook != nil { // how good it is, Rank says
		f.Fits = alloc.Fits(&view.Node, s.Request.On(&view.Node))
	} else if best, ok := alloc.Best(&view.Node, s.Request.On(&view.Node), s.Strategy); ok {
		f = gpustate.Fit{Fits: true, Score: alloc.Score(&view.Node, &best, s.Strategy)}
	}
	if !f.Fits {
		f.Why = whyNot(&view.Node, s.Request)
	}
	view.RememberFit(s.Shape, f)
	return f
}

// Rank says how good the best place on a node is, over all nodes and 64-bit numbers, by a viewer that has a mix. For a pod that asks for
// no GPU memory, a node of which no GPUs are known is the best there is.
func (s *State) Rank(view *gpustate.View) int64 {
	if s.Request.Options() == nil && len(view.Devices) == 0 {
		return math.MaxInt64
	}
	of := gpustate.Ranked{Shape: s.Shape, Needs: s.Needs}
	rank, known := view.Rank(of)
	if known {
		return rank
	}
	if s.Request.Options() == nil {
		rank = -alloc.Cost(&view.Node, nil)
	} else if best, ok := alloc.Best(&view.Node, s.Request.On(&view.Node), s.Strategy); ok && view.Reason == "" {
		rank = alloc.Rank(&view.Node, &best)
	} else {
		return math.MinInt64 // it was filled meanwhile
	}
	view.RememberRank(of, rank)
	return rank
}

// Why a request does not fit on a node that can be planned on.
const (
	NotFree uint8 = iota
	TooSmall
	Instances
	Unhealthy
	ResourceClaimed
	Contested
	Cordoned
)

func whyNot(n *alloc.Node, r *gpustate.Request) uint8 {
	asked := r.On(n)
	switch {
	case !alloc.CanEverFit(n, asked):
		if reason, _ := alloc.Unfit(n, asked); reason == alloc.ReasonInstances {
			return Instances
		}
		return TooSmall
	case !alloc.CanEverFit(usable(n), asked):
		switch {
		case alloc.CanEverFit(usable(n, alloc.ReasonResourceClaimed), asked):
			return ResourceClaimed
		case alloc.CanEverFit(usable(n, alloc.ReasonContested), asked):
			return Contested
		case alloc.CanEverFit(usable(n, alloc.ReasonCordoned), asked):
			return Cordoned
		}
		return Unhealthy
	}
	return NotFree
}

// usable returns the node without the devices that no eviction and no waiting pod can free, but for those that are
// blocked for one of the reasons given.
func usable(n *alloc.Node, but ...alloc.Reason) *alloc.Node {
	isUsable := func(d *alloc.Device) bool {
		return d.Blocked == "" || d.Blocked == alloc.ReasonLoading || d.Blocked == alloc.ReasonSameWorkload || slices.Contains(but, d.Blocked)
	}
	out := n
	for i := range n.Devices {
		d := &n.Devices[i]
		switch {
		case !isUsable(d) && out == n:
			out = &alloc.Node{Name: n.Name, Devices: slices.Clone(n.Devices[:i])}
		case isUsable(d) && out != n:
			out.Devices = append(out.Devices, *d)
		}
	}
	return out
}
