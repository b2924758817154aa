// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package parked

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Pod is a pod on the list. It is immutable: each change replaces it.
type Pod struct {
	*corev1.Pod
	// Request is what it asks for; nil while it is gated.
	Request *gpustate.Request
	// Shape is the number of what it asks for: pods of one shape ask for the same.
	Shape uint64
	// Profile is the ModelProfile that its request was made from, or that it waits for; empty if none.
	Profile string

	// turn orders pods of one priority: the later a pod was tried, the later it is tried again.
	turn uint64
	// refused are the nodes on which somebody else than Berth refused it in its last cycle.
	refused nodeSet
	// wokenBy are the changes for whose sake it was woken since its last cycle.
	wokenBy []Change
}

// kind is what decides alike for many pods whether a node helps them.
type kind struct {
	shape    uint64
	runtime  berthv1alpha1.Runtime
	priority int32
}

func kindOf(p *Pod) kind {
	return kind{p.Shape, p.Request.Runtime, corev1helpers.PodPriority(p.Pod)}
}

// group is the pods of one kind.
type group struct {
	kind
	request *gpustate.Request
	// least is the smallest share of any of its options: no device with less free is of use.
	least alloc.Bytes
	pods  map[types.UID]*Pod
}

// List is the pods that were tried, or gated, and are not placed. It is safe for concurrent use.
type List struct {
	mu     sync.RWMutex
	pods   map[types.UID]*Pod
	groups map[kind]*group
	turn   atomic.Uint64
	// recent are the pods that were listed last, by turn.
	recent  [64]types.UID
	numbers map[string]int // of nodes, for nodeSet
}

// NewList returns an empty list.
func NewList() *List {
	return &List{pods: map[types.UID]*Pod{}, groups: map[kind]*group{}, numbers: map[string]int{}}
}

// Add lists a pod that is gated, or begins a cycle: until the cycle ends, any node may help it. It is listed before
// the state is looked at, so that a change which arrives meanwhile is not lost.
func (l *List) Add(p Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.pods[p.UID]; old != nil {
		p.wokenBy = old.wokenBy
	}
	p.turn, p.refused = l.turn.Add(1), nodeSet{}
	l.recent[p.turn%uint64(len(l.recent))] = p.UID
	l.put(&p)
}

// Refused says on which nodes somebody else than Berth refused a pod in the cycle that ends.
func (l *List) Refused(uid types.UID, nodes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.pods[uid]
	if old == nil {
		return
	}
	p := *old
	p.refused = l.setOf(nodes)
	l.put(&p)
}

// TakeWoken returns the changes for whose sake a pod was woken, and forgets them: its cycle is over.
func (l *List) TakeWoken(uid types.UID) []Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.pods[uid]
	if old == nil || len(old.wokenBy) == 0 {
		return nil
	}
	p := *old
	p.wokenBy = nil
	l.put(&p)
	return old.wokenBy
}

// Woken notes that pods were woken for the sake of a change.
func (l *List) Woken(c Change, pods []*Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, woken := range pods {
		old := l.pods[woken.UID]
		if old == nil {
			continue
		}
		p := *old
		// The newest change of a kind stands for those before it.
		p.wokenBy = slices.DeleteFunc(slices.Clone(p.wokenBy), func(o Change) bool { return o.Node == c.Node && o.What == c.What })
		p.wokenBy = append(p.wokenBy, c)
		l.put(&p)
	}
}

// Remove takes a pod off the list, and returns the changes for whose sake it was woken.
func (l *List) Remove(uid types.UID) (wokenBy []Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.pods[uid]
	if old == nil {
		return nil
	}
	l.ungroup(old)
	delete(l.pods, uid)
	if len(l.pods) == 0 {
		clear(l.numbers) // nobody remembers any
	}
	return old.wokenBy
}

// Get returns a pod of the list, or nil.
func (l *List) Get(uid types.UID) *Pod {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.pods[uid]
}

// Turn counts how often a pod was listed.
func (l *List) Turn() uint64 { return l.turn.Load() }

// Since returns the pods that were listed after a change.
func (l *List) Since(c Change) sets.Set[types.UID] {
	l.mu.RLock()
	defer l.mu.RUnlock()
	late := sets.New[types.UID]()
	last := l.turn.Load()
	if last-c.turn <= uint64(len(l.recent)) {
		for turn := c.turn + 1; turn <= last; turn++ {
			late.Insert(l.recent[turn%uint64(len(l.recent))])
		}
		return late
	}
	for uid, p := range l.pods {
		if p.turn > c.turn {
			late.Insert(uid)
		}
	}
	return late
}

// All returns the pods that wait for memory, in no order.
func (l *List) All() (pods []*Pod) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, p := range l.pods {
		if p.Request != nil {
			pods = append(pods, p)
		}
	}
	return pods
}

// Of returns the pods whose request was made from a profile, or that wait for it, in the order of their turns.
func (l *List) Of(profile string) (pods []*Pod) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, p := range l.pods {
		if p.Profile == profile {
			pods = append(pods, p)
		}
	}
	slices.SortFunc(pods, compare)
	return pods
}

// compare is the order in which pods are tried: by priority, then by turn.
func compare(a, b *Pod) int {
	return cmp.Or(
		cmp.Compare(corev1helpers.PodPriority(b.Pod), corev1helpers.PodPriority(a.Pod)),
		cmp.Compare(a.turn, b.turn),
	)
}

func (l *List) put(p *Pod) {
	if old := l.pods[p.UID]; old != nil {
		l.ungroup(old)
	}
	l.pods[p.UID] = p
	if p.Request == nil {
		return
	}
	k := kindOf(p)
	g := l.groups[k]
	if g == nil {
		g = &group{kind: k, request: p.Request, least: leastOf(p.Request), pods: map[types.UID]*Pod{}}
		l.groups[k] = g
	}
	g.pods[p.UID] = p
}

func (l *List) ungroup(p *Pod) {
	if p.Request == nil {
		return
	}
	k := kindOf(p)
	if g := l.groups[k]; g != nil {
		if delete(g.pods, p.UID); len(g.pods) == 0 {
			delete(l.groups, k)
		}
	}
}

// leastOf returns the least that a device must have free to be of use; zero where that depends on the device.
func leastOf(r *gpustate.Request) (least alloc.Bytes) {
	if r.Sizing() != "" {
		return alloc.Bytes{}
	}
	for i := range r.Options() {
		for j, share := range r.Options()[i].Shares {
			if i == 0 && j == 0 || share.Less(least) {
				least = share
			}
		}
	}
	return least
}
