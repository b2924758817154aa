// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// stormCapacity is what can be booked on a GPU: all but the headroom.
const stormCapacity = 80<<30 - 256<<20

// stormShares are bytes on each GPU of a node.
type stormShares [stormGPUs]int64

func (s *stormShares) add(o *stormShares, times int64) {
	for i := range s {
		s[i] += times * o[i]
	}
}

// stormPod is where a pod is, and what it has booked there.
type stormPod struct {
	node   string
	shares stormShares
}

// stormNode is what the solver knows of a node.
type stormNode struct {
	name string
	free stormShares
	// low is what the pods that may be evicted have booked.
	low []stormShares
	// known are the fewest victims for a request, as far as they were looked for.
	known map[stormRequest]*stormEviction
}

// stormModel is a cluster: nodes by name.
type stormModel map[string]*stormNode

// stormRequest is what a preemptor asks for: a total, and the counts of GPUs over which it can be spread evenly.
type stormRequest struct {
	total  int64
	counts string
}

// stormEviction is the best set of so many victims on a node, if there is any; with fewer there is none.
type stormEviction struct {
	size    int
	found   bool
	victims []int
	freed   int64
}

func requestOf(pod *corev1.Pod) stormRequest {
	memory := resource.MustParse(pod.Annotations[berthv1alpha1.AnnotationGPUMemory])
	return stormRequest{memory.Value(), pod.Annotations[berthv1alpha1.AnnotationGPUCount]}
}

// fewestVictims places preemptors one after the other, each where it takes the fewest victims: exact for each node,
// greedy over nodes. It is independent of the planner, and knows all preemptors beforehand: of three orders, the best
// counts.
func (m stormModel) fewestVictims(pods []*corev1.Pod) int {
	requests := make([]stormRequest, len(pods))
	for i, p := range pods {
		requests[i] = requestOf(p)
	}
	best := m.clone().place(requests)
	slices.SortStableFunc(requests, func(a, b stormRequest) int { return cmp.Compare(a.total, b.total) })
	best = min(best, m.clone().place(requests))
	slices.Reverse(requests)
	return min(best, m.clone().place(requests))
}

func (m stormModel) clone() stormModel {
	out := stormModel{}
	for name, n := range m {
		out[name] = &stormNode{name: name, free: n.free, low: slices.Clone(n.low), known: map[stormRequest]*stormEviction{}}
	}
	return out
}

// place places the requests and returns how many victims that took.
func (m stormModel) place(requests []stormRequest) (victims int) {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, r := range requests {
		var on *stormNode
		for size := 0; on == nil && size <= stormGPUs*4; size++ {
			for _, name := range names {
				n := m[name]
				if e := n.evict(r, size); e.found && (on == nil || e.freed < on.known[r].freed) {
					on = n
				}
			}
		}
		if on == nil {
			return 1 << 20 // it fits nowhere: not a solution
		}
		victims += on.known[r].size
		on.apply(r)
	}
	return victims
}

// evict looks for a set of that many victims after which the request fits; smaller sets were looked for before. Of
// several it takes the one that frees least.
func (n *stormNode) evict(r stormRequest, size int) *stormEviction {
	e := n.known[r]
	if e != nil && (e.found || e.size >= size) {
		if e.size != size {
			return &stormEviction{}
		}
		return e
	}
	e = &stormEviction{size: size}
	n.known[r] = e
	chosen := make([]int, 0, size)
	var choose func(from int, free stormShares, freed int64)
	choose = func(from int, free stormShares, freed int64) {
		if len(chosen) == size {
			if (!e.found || freed < e.freed) && r.devices(&free) != nil {
				e.found, e.freed, e.victims = true, freed, slices.Clone(chosen)
			}
			return
		}
		for v := from; v <= len(n.low)-(size-len(chosen)); v++ {
			next, sum := free, freed
			next.add(&n.low[v], 1)
			for _, share := range n.low[v] {
				sum += share
			}
			chosen = append(chosen, v)
			choose(v+1, next, sum)
			chosen = chosen[:len(chosen)-1]
		}
	}
	choose(0, n.free, 0)
	return e
}

// devices returns the GPUs on which the request fits, of the fewest that will do those with least room; nil if none do.
func (r stormRequest) devices(free *stormShares) []int {
	for c := range strings.SplitSeq(r.counts, ",") {
		count, err := strconv.Atoi(c)
		if err != nil {
			panic(err) // a mistake of the test
		}
		var fits []int
		for i := range free {
			if free[i] >= r.total/int64(count) {
				fits = append(fits, i)
			}
		}
		if len(fits) >= count {
			slices.SortFunc(fits, func(a, b int) int { return cmp.Compare(free[a], free[b]) })
			return fits[:count]
		}
	}
	return nil
}

// apply evicts the victims found for a request, and books it.
func (n *stormNode) apply(r stormRequest) {
	for _, v := range slices.Backward(n.known[r].victims) {
		n.free.add(&n.low[v], 1)
		n.low = slices.Delete(n.low, v, v+1)
	}
	devices := r.devices(&n.free)
	for _, i := range devices {
		n.free[i] -= r.total / int64(len(devices))
	}
	clear(n.known)
}

// notNeeded returns the victims without whose eviction everybody would have fit as well.
func (m stormModel) notNeeded(victims map[string]stormPod) (names []string) {
	for name, v := range victims {
		needed := false
		for i, share := range v.shares {
			needed = needed || share > m[v.node].free[i]
		}
		if !needed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestStormSolver checks the solver by hand.
func TestStormSolver(t *testing.T) {
	const gib = 1 << 30
	full := func(pods ...stormShares) *stormNode {
		n := &stormNode{low: pods}
		for i := range n.free {
			n.free[i] = stormCapacity
		}
		for _, p := range pods {
			n.free.add(&p, -1)
		}
		for i := 2; i < stormGPUs; i++ {
			n.free[i] = 0 // of foreign processes
		}
		return n
	}
	m := stormModel{
		"a": full(stormShares{40 * gib}, stormShares{39 * gib}, stormShares{0, 70 * gib}),
		"b": full(stormShares{70 * gib, 70 * gib}),
	}
	one, two := stormRequest{60 * gib, "1"}, stormRequest{120 * gib, "1,2"}
	for _, tc := range []struct {
		name     string
		requests []stormRequest
		want     int
	}{
		{"one GPU: the 70Gi on it, not the two pods on the other", []stormRequest{one}, 1},
		{"two GPUs: the pod that spans both", []stormRequest{two}, 1},
		{"both", []stormRequest{one, two}, 2},
		{"three: one of them in place of two pods, or beside another on the node of the pod that spans both", []stormRequest{one, one, one}, 2},
		{"two of two GPUs", []stormRequest{two, two}, 4},
		{"more than fits", []stormRequest{two, two, one}, 1 << 20},
	} {
		if got := m.clone().place(tc.requests); got != tc.want {
			t.Errorf("%s: %d victims, want %d", tc.name, got, tc.want)
		}
	}
	idle := m.notNeeded(map[string]stormPod{
		"fits": {"a", stormShares{0, 9 * gib}}, "does not": {"a", stormShares{0, 10 * gib}},
	})
	if !slices.Equal(idle, []string{"fits"}) {
		t.Errorf("not needed: %v", idle)
	}
}
