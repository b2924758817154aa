// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import (
	"cmp"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

const (
	// maxAge is for how long it counts that something ran. What stays of it is the page cache and caches on disk; by then others
	// have been loaded over it, or nobody can tell. An hour spans restarts, roll-outs and scaling to zero and back.
	maxAge = time.Hour
	// maxEnded bounds what is remembered of pods that are gone: so many GPUs, the oldest are forgotten first. That is some 2 MB.
	maxEnded = 10_000
)

// Book remembers where pods that load the same run, and ran. It is safe for concurrent use. A nil Book remembers nothing.
type Book struct {
	clock clock.PassiveClock
	// node returns the UID of a node, false if there is no such node.
	node func(name string) (types.UID, bool)

	mu sync.RWMutex
	// pods are those that are bound, what they load being known or not.
	pods map[types.UID]*run
	// loaded has, for each key, the nodes on which pods with it run or ran.
	loaded map[string]map[string]*place
	// ended are the GPUs of pods that are gone, in the order in which they were told.
	ended []ended
}

// run is a pod that is bound.
type run struct {
	key, node string
	nodeUID   types.UID
	// ready says that it was Ready once: what it loads was there.
	ready bool
}

// place is a node for one key.
type place struct {
	// runs are the pods that were Ready, each with the UID of its node; empty = not known.
	runs map[types.UID]types.UID
	ran  map[string]ran // by the UUID of the GPU
}

// ran is until when pods with a key were on a GPU.
type ran struct {
	until   time.Time
	nodeUID types.UID
}

type ended struct {
	key, node, gpu string
	until          time.Time
}

// NewBook returns an empty book.
func NewBook(c clock.PassiveClock, node func(name string) (types.UID, bool)) *Book {
	return &Book{clock: c, node: node, pods: map[types.UID]*run{}, loaded: map[string]map[string]*place{}}
}

// Seen tells of a pod that is there, or changed. One counts once it was Ready: before, it may have loaded nothing yet.
func (b *Book) Seen(pod *corev1.Pod) {
	if b == nil || pod.Spec.NodeName == "" || pod.Annotations[berthv1alpha1.AnnotationAllocation] == "" {
		return
	}
	if gpustate.HasEnded(pod) {
		b.Gone(pod)
		return
	}
	ready := gpustate.IsReady(pod)
	b.mu.RLock()
	r := b.pods[pod.UID]
	known := r != nil && (r.ready || !ready)
	b.mu.RUnlock()
	if known {
		return
	}
	if r == nil {
		r = &run{key: keyOf(pod), node: pod.Spec.NodeName}
		r.nodeUID, _ = b.node(r.node)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pods[pod.UID] == nil {
		b.pods[pod.UID] = r
	}
	if r.ready = ready; ready && r.key != "" {
		b.placeOf(r.key, r.node).runs[pod.UID] = r.nodeUID
	}
}

// Gone tells of a pod that is gone, or has ended. One that had ended before anybody saw it run counts if it succeeded.
func (b *Book) Gone(pod *corev1.Pod) {
	if b == nil || pod.Spec.NodeName == "" || pod.Annotations[berthv1alpha1.AnnotationAllocation] == "" {
		return
	}
	until := b.clock.Now()
	b.mu.Lock()
	r := b.pods[pod.UID]
	if r != nil {
		delete(b.pods, pod.UID)
		b.leave(pod.UID, r)
	}
	b.mu.Unlock()
	if r == nil && pod.Status.Phase == corev1.PodSucceeded {
		if at, ok := finishedAt(pod); ok && at.Before(until) {
			r, until = &run{key: keyOf(pod), node: pod.Spec.NodeName, ready: true}, at
		}
	}
	if r == nil || !r.ready || r.key == "" || b.clock.Since(until) >= maxAge {
		return
	}
	nodeUID, exists := b.node(r.node)
	a, err := gpustate.BookingOf(pod)
	if !exists || r.nodeUID != "" && r.nodeUID != nodeUID || err != nil || a == nil {
		return // its node is gone with all that was on it
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.placeOf(r.key, r.node)
	for _, share := range a.Devices {
		if p.ran[share.UUID].until.Before(until) {
			p.ran[share.UUID] = ran{until, nodeUID}
			b.ended = append(b.ended, ended{r.key, r.node, share.UUID, until})
		}
	}
	b.forget()
}

// keyOf returns the key of a bound pod, empty if it has none.
func keyOf(pod *corev1.Pod) string {
	request, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil || request == nil {
		return ""
	}
	return LoadsOf(pod, request.Model).Key
}

// finishedAt returns when the last container of a pod that has ended did so.
func finishedAt(pod *corev1.Pod) (last time.Time, ok bool) {
	for i := range pod.Status.ContainerStatuses {
		if t := pod.Status.ContainerStatuses[i].State.Terminated; t != nil && t.FinishedAt.After(last) {
			last, ok = t.FinishedAt.Time, true
		}
	}
	return last, ok
}

func (b *Book) placeOf(key, node string) *place {
	nodes := b.loaded[key]
	if nodes == nil {
		nodes = map[string]*place{}
		b.loaded[key] = nodes
	}
	if nodes[node] == nil {
		nodes[node] = &place{runs: map[types.UID]types.UID{}, ran: map[string]ran{}}
	}
	return nodes[node]
}

// leave takes a pod that no longer runs off its node.
func (b *Book) leave(pod types.UID, r *run) {
	if p := b.loaded[r.key][r.node]; p != nil {
		delete(p.runs, pod)
		b.clear(r.key, r.node)
	}
}

// clear drops a place of which nothing is left.
func (b *Book) clear(key, node string) {
	if p := b.loaded[key][node]; p != nil && len(p.runs) == 0 && len(p.ran) == 0 {
		delete(b.loaded[key], node)
		if len(b.loaded[key]) == 0 {
			delete(b.loaded, key)
		}
	}
}

// forget drops what is too old, or too much.
func (b *Book) forget() {
	drop := 0
	for ; drop < len(b.ended); drop++ {
		e := &b.ended[drop]
		if len(b.ended)-drop <= maxEnded && b.clock.Since(e.until) < maxAge {
			break
		}
		if p := b.loaded[e.key][e.node]; p != nil && p.ran[e.gpu].until.Equal(e.until) {
			delete(p.ran, e.gpu)
			b.clear(e.key, e.node)
		}
	}
	b.ended = slices.Delete(b.ended, 0, drop)
}

// Places are the nodes on which what a pod loads was loaded. A nil Places has none.
type Places struct {
	book *Book
	key  string
}

// Of returns where what has a key was loaded; nil if nowhere, as far as is known.
func (b *Book) Of(key string) *Places {
	if b == nil || key == "" {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.loaded[key] == nil {
		return nil
	}
	return &Places{b, key}
}

// Place is what was loaded on a node.
type Place struct {
	// Runs are the pods that were Ready there and are not gone, in order.
	Runs []types.UID
	// Ran are the GPUs of those that are gone, by UUID.
	Ran []Ran
}

// Ran is a GPU, and when the last pod that was on it went.
type Ran struct {
	GPU   string
	Until time.Time
}

// On returns what was loaded on a node; false if nothing, as far as is known. A node that was replaced by another one of its name
// is another node.
func (p *Places) On(node *corev1.Node) (found Place, ok bool) {
	if p == nil {
		return found, false
	}
	b := p.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	at := b.loaded[p.key][node.Name]
	if at == nil {
		return found, false
	}
	for pod, nodeUID := range at.runs {
		if nodeUID == "" || nodeUID == node.UID {
			found.Runs = append(found.Runs, pod)
		}
	}
	for gpu, r := range at.ran {
		if r.nodeUID == node.UID && b.clock.Since(r.until) < maxAge {
			found.Ran = append(found.Ran, Ran{gpu, r.until})
		}
	}
	slices.Sort(found.Runs)
	slices.SortFunc(found.Ran, func(x, y Ran) int { return cmp.Compare(x.GPU, y.GPU) })
	return found, len(found.Runs)+len(found.Ran) > 0
}
