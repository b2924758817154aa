// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package mix

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/shared"
)

// Book counts pods by what they ask for. It is safe for concurrent use; a nil Book counts nothing, and knows of no mix.
type Book struct {
	*shared.World
	Requests *requests.Reader

	mu    sync.Mutex
	of    map[types.UID]kind
	kinds map[kind]*counted
	// changes counts the pods that came, went or changed since the mix was made.
	changes int
	mix     *gpustate.Mix
	// run is what the last pod asked for, and at when it was tried.
	run gpustate.Ranked
	at  time.Time
}

// kind is a kind of request.
type kind struct {
	devices int
	share   alloc.Bytes
	host    alloc.Host
	// where are the nodes on which it may be, as text; empty = all.
	where string
}

type counted struct {
	pods  int
	nodes *nodeaffinity.RequiredNodeAffinity
}

const (
	// renewal is which part of the pods must have changed for the mix to be made anew: all that is known of nodes by a mix is
	// worked out again then.
	renewal = 16
	// pause ends a run of pods that ask for the same. The framework reuses a ranking for half a second.
	pause = time.Second
)

// NewBook returns an empty book.
func NewBook(w *shared.World, r *requests.Reader) *Book {
	return &Book{World: w, Requests: r, of: map[types.UID]kind{}, kinds: map[kind]*counted{}}
}

// Seen counts a pod that is there, or changed.
func (b *Book) Seen(pod *corev1.Pod) {
	if b == nil || !b.IsOurs(pod) {
		return
	}
	if gpustate.HasEnded(pod) {
		b.Gone(pod.UID)
		return
	}
	devices, share := b.asked(pod)
	if devices == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	before, known := b.of[pod.UID]
	if known && before.devices == devices && before.share == share {
		return
	}
	b.drop(pod.UID)
	k := kind{devices: devices, share: share, host: cycle.NeedsOf(pod), where: where(pod)}
	c := b.kinds[k]
	if c == nil {
		c = &counted{}
		if k.where != "" {
			nodes := nodeaffinity.GetRequiredNodeAffinity(pod)
			c.nodes = &nodes
		}
		b.kinds[k] = c
	}
	c.pods++
	b.of[pod.UID] = k
	b.changes++
}

// Tried counts a pod that has a cycle: perhaps the size of its model is known since it was seen.
func (b *Book) Tried(pod *corev1.Pod) {
	if b == nil {
		return
	}
	b.Seen(pod)
	if !b.Exists(pod) {
		b.Gone(pod.UID) // nobody else would: that it is gone may have been told before
	}
}

// Gone takes a pod off that is gone, or has ended.
func (b *Book) Gone(pod types.UID) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drop(pod) {
		b.changes++
	}
}

func (b *Book) drop(pod types.UID) bool {
	k, ok := b.of[pod]
	if !ok {
		return false
	}
	delete(b.of, pod)
	if b.kinds[k].pods--; b.kinds[k].pods == 0 {
		delete(b.kinds, k)
	}
	return true
}

// asked returns on how many devices a pod has memory or, while it waits, would rather have it, and the least that it has of one;
// 0 for one that asks for none, or of which that is not known.
func (b *Book) asked(pod *corev1.Pod) (devices int, share alloc.Bytes) {
	if pod.Spec.NodeName != "" {
		booked := b.Tracker.Ledger.Get(pod.UID)
		if booked == nil || booked.Allocation == nil || booked.Allocation.Whole {
			return 0, share
		}
		for i, d := range booked.Allocation.Devices {
			if i == 0 || d.Memory.Less(share) {
				share = d.Memory
			}
		}
		return len(booked.Allocation.Devices), share
	}
	request := b.Requests.Of(pod).Request
	if request == nil {
		return 0, share
	}
	shares := request.Options()[0].Shares
	return len(shares), shares[len(shares)-1]
}

// For returns the mix by which the nodes for a pod are ranked that asks for that; nil if there is none. It is made anew once a
// part of the pods has changed, but not amid pods that ask for the same: of those the framework may compare ranks of several cycles.
func (b *Book) For(asked gpustate.Ranked) *gpustate.Mix {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.Clock.Now()
	amid := asked == b.run && now.Sub(b.at) < pause && b.mix != nil
	b.run, b.at = asked, now
	if !amid && b.changes > 0 && b.changes*renewal >= len(b.of) {
		b.mix, b.changes = b.made(), 0
	}
	return b.mix
}
