// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cycle

import (
	"slices"

	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/warm"
)

// Warm is what a cycle goes by to prefer warm places. The zero Warm prefers none.
type Warm struct {
	// Weight is 0 to 100; 0 = not at all.
	Weight int64
	Loads  warm.Loads
	// Places are where it was loaded; nil = nowhere, as far as is known.
	Places *warm.Places
	// Namespace is the pod's. Pods of others are not named to its owner.
	Namespace string
	// FileSize is that of the files that are loaded, zero if it is not known.
	FileSize alloc.Bytes
}

// Prefers says whether any place may be warm.
func (w *Warm) Prefers() bool {
	return w.Weight > 0 && (w.Places != nil || len(w.Loads.Images) > 0)
}

// Raised returns the score of a node by how warm the pod's best place there is.
func (s *State) Raised(ni fwk.NodeInfo, score int64) int64 {
	if !s.Warm.Prefers() {
		return score
	}
	level := warm.Cold
	if a, view, l := s.warmestOn(ni); a != nil {
		score, level = alloc.Score(&view.Node, a, s.Strategy), l
	}
	return warm.Raise(score, level, s.Warm.Weight)
}

// LevelOn returns how warm the pod's best place on a node is.
func (s *State) LevelOn(ni fwk.NodeInfo) warm.Level {
	if !s.Warm.Prefers() {
		return warm.Cold
	}
	_, _, level := s.warmestOn(ni)
	return level
}

// warmestOn returns the pod's best place on a node that is warm; nil if the node is cold, or the pod does not fit there any more.
func (s *State) warmestOn(ni fwk.NodeInfo) (*alloc.Allocation, *gpustate.View, warm.Level) {
	if _, known := s.Warm.Places.On(ni.Node()); !known && s.imagesOn(ni).IsZero() {
		return nil, nil, warm.Cold
	}
	view := s.View(ni)
	best, ok := alloc.Best(&view.Node, s.Request.On(&view.Node), s.Strategy)
	if !ok || view.Reason != "" {
		return nil, nil, warm.Cold
	}
	w := s.WarmthOn(ni, &view)
	a, level := s.Warmest(&view, &best, &w)
	if level == warm.Cold {
		return nil, nil, level
	}
	return a, &view, level
}

// Warmest returns the better of two allocations on a node, by how warm they are too: the best one, and the best on warm GPUs
// alone. The latter never takes more GPUs, and by a mix it never costs more.
func (s *State) Warmest(view *gpustate.View, best *alloc.Allocation, w *warm.Warmth) (*alloc.Allocation, warm.Level) {
	level := w.Level()
	if w.GPUs == 0 || s.Warm.Weight == 0 {
		return best, level
	}
	n := &view.Node
	if !slices.ContainsFunc(best.Devices, func(d alloc.DeviceShare) bool { return w.GPUs&(1<<n.Position(d.UUID)) == 0 }) {
		return best, warm.GPUs
	}
	only := alloc.Node{Name: n.Name, Devices: slices.Clone(n.Devices), Outlook: n.Outlook}
	for i := range only.Devices {
		if d := &only.Devices[i]; w.GPUs&(1<<i) == 0 {
			d.Used = d.Used.Max(d.Capacity)
		}
	}
	there, ok := alloc.Best(&only, s.Request.On(n), s.Strategy)
	if !ok || there.Option != best.Option {
		return best, level
	}
	if n.Outlook != nil {
		if alloc.Rank(n, &there) < alloc.Rank(n, best) {
			return best, level
		}
		return &there, warm.GPUs
	}
	raised := func(a *alloc.Allocation, l warm.Level) int64 {
		return warm.Raise(alloc.Score(n, a, s.Strategy), l, s.Warm.Weight)
	}
	if raised(&there, warm.GPUs) < raised(best, level) {
		return best, level
	}
	return &there, warm.GPUs
}

// WarmthOn returns what is known of a node. One that has a replica of the pod's own workload that is awake is cold: else whoever
// asks for more replicas, to serve more or to lose less with a node, would get them all in one place.
func (s *State) WarmthOn(ni fwk.NodeInfo, view *gpustate.View) (w warm.Warmth) {
	if !s.Warm.Prefers() {
		return w
	}
	place, known := s.Warm.Places.On(ni.Node())
	w.ImageBytes = s.imagesOn(ni)
	if !known && w.ImageBytes.IsZero() {
		return w
	}
	for _, r := range place.Ran {
		if i := view.Position(r.GPU); i >= 0 {
			w.GPUs |= 1 << i
		}
	}
	w.Ran = place.Ran
	for _, e := range s.Viewer.Ledger.OnNode(view.Name) {
		if e.UID == s.UID || e.State == gpustate.Draining || e.Pod != nil && e.Pod.DeletionTimestamp != nil {
			continue
		}
		_, loaded := slices.BinarySearch(place.Runs, e.UID)
		asleep := s.asleepOn(view, e)
		switch {
		case loaded && asleep != nil:
			w.Asleep = append(w.Asleep, asleep...)
			for i := range asleep {
				w.GPUs |= 1 << asleep[i].Device
			}
		case e.Company.Workload != "" && e.Company.Workload == s.Request.Company.Workload:
			return warm.Warmth{}
		case loaded:
			w.Runs = s.nameOf(e)
		}
	}
	return w
}

// imagesOn returns the size of the pod's image volumes if all of them are on a node, else zero. Images of containers are left to
// ImageLocality.
func (s *State) imagesOn(ni fwk.NodeInfo) (size alloc.Bytes) {
	for _, reference := range s.Warm.Loads.Images {
		image, ok := ni.GetImageStates()[reference]
		if !ok {
			return alloc.Bytes{}
		}
		size = size.Plus(alloc.BytesOfInt64(image.Size))
	}
	return size
}

// asleepOn returns a pod that sleeps on all its GPUs, with each of them; nil if it does not, or nobody can tell. One that holds
// little while it loads is no sleeper: its replicas would gather around it.
func (s *State) asleepOn(view *gpustate.View, e *gpustate.Entry) (asleep []warm.Sleeper) {
	if e.Pod == nil || !s.Viewer.HasLoaded(e.Pod) || e.Allocation == nil || e.Allocation.Whole || view.Report == nil {
		return nil
	}
	for _, share := range e.Allocation.Devices {
		i := view.Position(share.UUID)
		if i < 0 || !warm.IsAsleep(view.Report.Measured(e.UID, i), share.Memory) {
			return nil
		}
		asleep = append(asleep, warm.Sleeper{
			Pod: s.nameOf(e), Device: i, Index: view.Devices[i].Index, Holds: view.Report.Measured(e.UID, i), Booked: share.Memory,
			Loaded: estimator.EngineOf(e.Allocation.Runtime).MeasuresFreeMemory,
		})
	}
	return asleep
}

// nameOf names a pod to the owner of the cycle's pod.
func (s *State) nameOf(e *gpustate.Entry) string {
	if e.Namespace != s.Warm.Namespace {
		return "a pod of another namespace"
	}
	return "pod " + e.Namespace + "/" + e.Name
}
