// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package parked

import (
	"slices"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Room is what a change may have made free on a node, as pods of a runtime and a priority see it. A nil node has none
// for them.
type Room func(runtime berthv1alpha1.Runtime, priority int32) *alloc.Node

// Helped returns the pods that room on a node helps, in the order in which they are to be tried: each takes its share
// of the room, until nothing more fits. Left out are those that were tried since the change, those that do not belong
// to among, and those that somebody else than Berth refused there in their last cycle: they have the hints of others,
// and their backoff.
//
// What else a pod lacks is not looked at, so it may be tried for nothing; but then it passes the wake on, so that this
// never says no for something.
func (l *List) Helped(c Change, among func(*Pod) bool, room Room) []*Pod {
	l.mu.RLock()
	defer l.mu.RUnlock()
	w := wake{room: room, scratch: map[sight]*alloc.Node{}}
	number, known := l.numbers[c.Node]
	if !known {
		number = -1
	}
	var candidates []*Pod
	for _, g := range l.groups {
		if !w.fits(g) {
			continue
		}
		for _, p := range g.pods {
			if c.Concerns(p) && !p.refused.has(number) && among(p) {
				candidates = append(candidates, p)
			}
		}
	}
	slices.SortFunc(candidates, compare)
	var helped []*Pod
	full := map[*group]bool{}
	for _, p := range candidates {
		g := l.groups[kindOf(p)]
		if full[g] {
			continue
		}
		if !w.take(g) {
			full[g] = true
			continue
		}
		helped = append(helped, p)
	}
	return helped
}

// sight is what decides how a pod sees a node.
type sight struct {
	runtime  berthv1alpha1.Runtime
	priority int32
}

// wake hands out the room of a node.
type wake struct {
	room Room
	// scratch is the room that is left, as pods see it; nil = none.
	scratch map[sight]*alloc.Node
	taken   []taken
}

type taken struct {
	devices []alloc.DeviceShare
	runtime berthv1alpha1.Runtime
}

// see returns what is left for pods of a group.
func (w *wake) see(g *group) *alloc.Node {
	s := sight{g.runtime, g.priority}
	n, ok := w.scratch[s]
	if !ok {
		if given := w.room(s.runtime, s.priority); given != nil {
			n = &alloc.Node{Name: given.Name, Devices: slices.Clone(given.Devices)}
			for i := range w.taken {
				w.taken[i].from(n, s.runtime)
			}
		}
		w.scratch[s] = n
	}
	return n
}

func (w *wake) fits(g *group) bool {
	n := w.see(g)
	if n == nil {
		return false
	}
	for i := range n.Devices {
		if d := &n.Devices[i]; d.Blocked == "" && !d.Free().Less(g.least) {
			return alloc.Fits(n, g.request.On(n))
		}
	}
	return false
}

// take gives a pod of a group its share; false if nothing that it could use is left.
func (w *wake) take(g *group) bool {
	n := w.see(g)
	best, ok := alloc.Best(n, g.request.On(n), alloc.MostAllocated)
	if !ok {
		return false
	}
	t := taken{best.Devices, g.runtime}
	w.taken = append(w.taken, t)
	for s, n := range w.scratch {
		if n != nil {
			t.from(n, s.runtime)
		}
	}
	return true
}

// from books what was taken on a node, as pods of a runtime see it: they cannot load next to it if one of the two
// would mis-measure.
func (t *taken) from(n *alloc.Node, seenBy berthv1alpha1.Runtime) {
	for _, share := range t.devices {
		for i := range n.Devices {
			if d := &n.Devices[i]; d.UUID == share.UUID {
				d.Used = d.Used.Plus(share.Memory)
				if d.Blocked == "" && gpustate.Mismeasure(seenBy, t.runtime) {
					d.Blocked = alloc.ReasonLoading
				}
			}
		}
	}
}
