// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"sync"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// fit says whether a pod fits on what it sees of a node, and how good its best allocation there is, 0 to 100. What was
// found out for a pod that asks for the same, such as the last replica of its Deployment, is not worked out again
// as long as the node looks the same.
func (pl *Plugin) fit(s *cycleState, view *gpustate.View) gpustate.Fit {
	if view.Reason != "" {
		return gpustate.Fit{}
	}
	if known, ok := view.Fit(s.shape); ok {
		return known
	}
	var f gpustate.Fit
	if best, ok := alloc.Best(&view.Node, &s.request.Request, pl.args.Strategy); ok {
		f = gpustate.Fit{Fits: true, Score: alloc.Score(&view.Node, &best, pl.args.Strategy)}
	} else {
		f.Why = whyNot(&view.Node, s.request)
	}
	view.RememberFit(s.shape, f)
	return f
}

// Why a request does not fit on a node that can be planned on.
const (
	notFree uint8 = iota
	tooSmall
	unhealthy
)

func whyNot(n *alloc.Node, r *gpustate.Request) uint8 {
	switch {
	case !alloc.CanEverFit(n, &r.Request):
		return tooSmall
	case !alloc.CanEverFit(usable(n), &r.Request):
		return unhealthy
	}
	return notFree
}

// usable returns the node without the devices that no eviction and no waiting pod can free.
func usable(n *alloc.Node) *alloc.Node {
	isUsable := func(d *alloc.Device) bool { return d.Blocked == "" || d.Blocked == alloc.ReasonLoading }
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

// shapes numbers requests, from 1: equal requests have the same number. A number is never used for another request, but
// a request may get a new one.
type shapes struct {
	mu      sync.Mutex
	numbers map[string]uint64
	last    uint64
}

// maxShapes bounds the memory of requests that are not seen again.
const maxShapes = 4096

// of returns the number of what a request asks for.
func (s *shapes) of(r *gpustate.Request) uint64 {
	key := fmt.Sprint(r.MixedModels(), optionSignatures(r))
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.numbers[key]
	if !ok {
		if len(s.numbers) >= maxShapes || s.numbers == nil {
			s.numbers = map[string]uint64{}
		}
		s.last++
		number = s.last
		s.numbers[key] = number
	}
	return number
}
