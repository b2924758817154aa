// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// RotationGuard is how long a controller that lost a pod to an idle eviction cannot use one: two idle Deployments would
// evict each other in turns.
const RotationGuard = time.Hour

// Book is what there is to know beside the claims themselves. It is safe for concurrent use.
type Book struct {
	ledger *gpustate.Ledger

	mu sync.Mutex
	// givenUp are the nodes on which a pod has waited in vain, and until when it does not wait there again.
	givenUp map[types.UID]map[string]time.Time
	// evicted are the pods that were deleted to make room, until they are gone: the informer may tell later that they
	// terminate, and nobody else must be evicted meanwhile.
	evicted ComingBack
	// lostIdle are the controllers that lost a pod to an idle eviction, and when.
	lostIdle map[types.UID]time.Time
	// left is when a pod was last seen gone from a node, of the last listLag.
	left map[string]time.Time
	// untried are pods that somebody nominated whom this process has not tried yet.
	untried map[types.UID]*corev1.Pod
}

// NewBook returns an empty book beside a ledger.
func NewBook(ledger *gpustate.Ledger) *Book {
	return &Book{
		ledger: ledger, givenUp: map[types.UID]map[string]time.Time{}, evicted: ComingBack{},
		lostIdle: map[types.UID]time.Time{}, untried: map[types.UID]*corev1.Pod{}, left: map[string]time.Time{},
	}
}

// Forget forgets all about a pod that is bound or gone.
func (b *Book) Forget(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.givenUp, uid)
	delete(b.untried, uid)
}

// Evicted notes that a pod was deleted to make room; Gone ends it.
func (b *Book) Evicted(pod *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.evicted.add(pod)
}

// listLag is how long the list of a node's pods that a cycle has may be behind.
const listLag = 10 * time.Second

// Gone says that a pod is gone.
func (b *Book) Gone(pod *corev1.Pod, now time.Time) {
	b.Forget(pod.UID)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.evicted.remove(pod)
	maps.DeleteFunc(b.left, func(_ string, at time.Time) bool { return now.Sub(at) > listLag })
	if pod.Spec.NodeName != "" {
		b.left[pod.Spec.NodeName] = now
	}
}

// LeftLately says whether a pod is gone from a node that a cycle may still have on its list.
func (b *Book) LeftLately(node string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.left[node]
	return ok && now.Sub(at) <= listLag
}

// IsEvicted says whether a pod was deleted to make room.
func (b *Book) IsEvicted(pod *corev1.Pod) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.evicted[pod.Spec.NodeName].Has(pod.UID)
}

// ComingBack are pods whose memory comes back without anybody else being evicted, by node.
type ComingBack map[string]sets.Set[types.UID]

func (c ComingBack) add(pod *corev1.Pod) {
	if c[pod.Spec.NodeName] == nil {
		c[pod.Spec.NodeName] = sets.New[types.UID]()
	}
	c[pod.Spec.NodeName].Insert(pod.UID)
}

func (c ComingBack) remove(pod *corev1.Pod) {
	if on := c[pod.Spec.NodeName]; on.Has(pod.UID) {
		if on.Delete(pod.UID); len(on) == 0 {
			delete(c, pod.Spec.NodeName)
		}
	}
}

// ComingBack returns the pods whose memory comes back without an eviction for this pod: the victims of other pods'
// claims, and all that were deleted to make room.
func (b *Book) ComingBack(uid types.UID) ComingBack {
	b.mu.Lock()
	out := ComingBack{}
	for node, pods := range b.evicted {
		out[node] = pods.Clone()
	}
	b.mu.Unlock()
	b.ledger.EachClaim(func(e *gpustate.Entry) {
		if e.UID == uid {
			return
		}
		for _, v := range e.Claim.Victims {
			out.add(v)
		}
	})
	return out
}

// ComingBackOn is ComingBack for one node: what a claim waits for is on its node.
func (b *Book) ComingBackOn(node string, uid types.UID) sets.Set[types.UID] {
	b.mu.Lock()
	out := b.evicted[node].Clone()
	b.mu.Unlock()
	for _, e := range b.ledger.ClaimsOn(node) {
		if e.UID == uid {
			continue
		}
		for _, v := range e.Claim.Victims {
			if out == nil {
				out = sets.New[types.UID]()
			}
			out.Insert(v.UID)
		}
	}
	return out
}

// GiveUp says that a pod waited in vain on a node, and does not wait there again until a moment.
func (b *Book) GiveUp(uid types.UID, node string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.givenUp[uid] == nil {
		b.givenUp[uid] = map[string]time.Time{}
	}
	b.givenUp[uid][node] = until
}

// HasGivenUp says whether a pod has waited in vain on a node.
func (b *Book) HasGivenUp(uid types.UID, node string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.givenUp[uid][node])
}

// LostIdle notes that a controller lost a pod to an idle eviction.
func (b *Book) LostIdle(victim *corev1.Pod, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for uid, at := range b.lostIdle {
		if now.Sub(at) >= RotationGuard {
			delete(b.lostIdle, uid)
		}
	}
	b.lostIdle[ControllerOf(victim)] = now
}

// MayEvictIdle says whether a pod may evict idle pods of its own priority.
func (b *Book) MayEvictIdle(preemptor *corev1.Pod, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.lostIdle[ControllerOf(preemptor)]
	return !ok || now.Sub(at) >= RotationGuard
}

// ControllerOf returns the UID of what manages a pod, or the pod's own.
func ControllerOf(pod *corev1.Pod) types.UID {
	for i := range pod.OwnerReferences {
		if o := &pod.OwnerReferences[i]; o.Controller != nil && *o.Controller {
			return o.UID
		}
	}
	return pod.UID
}

// Nominated notes a pod that is nominated to a node by a scheduler before this one, or by somebody else.
func (b *Book) Nominated(pod *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.untried[pod.UID] = pod
}

// Tried says that a pod is tried by this process: its own cycles decide from now on what it claims.
func (b *Book) Tried(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.untried, uid)
}

// Untried returns the nominated pods that were not tried yet, the most important first, then the oldest.
func (b *Book) Untried() []*corev1.Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.untried) == 0 {
		return nil
	}
	out := make([]*corev1.Pod, 0, len(b.untried))
	for _, p := range b.untried {
		out = append(out, p)
	}
	slices.SortFunc(out, func(x, y *corev1.Pod) int {
		return cmp.Or(
			cmp.Compare(corev1helpers.PodPriority(y), corev1helpers.PodPriority(x)),
			x.CreationTimestamp.Compare(y.CreationTimestamp.Time),
			cmp.Compare(x.UID, y.UID),
		)
	})
	return out
}
