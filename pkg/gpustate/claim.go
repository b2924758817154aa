// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Claim is what a Claimed entry has beside its devices: why it waits, and how long. A claim without devices waits for
// its victims to be gone and holds nothing: its place went to a pod of higher priority.
type Claim struct {
	// Victims are the pods that were evicted for it; none if it only waits.
	Victims []*corev1.Pod
	// MadeAt is when the pod began to wait on the node.
	MadeAt time.Time
	// Deadline is when the claim is given up, if the memory is not back by then.
	Deadline time.Time
	// PatientUntil is until when nobody is evicted elsewhere instead; the zero time = until the deadline.
	PatientUntil time.Time
	// HoldsFrom is from when on the devices are held against others; the zero time = at once. A pod that only waits for
	// memory that comes back in an hour keeps nobody from what is free until then.
	HoldsFrom time.Time
}

// Claim books devices, which may be none, on the node that a pod is nominated to. It takes the place of the pod's claim
// before, which it returns, if any. It fails for a pod that is booked already.
func (l *Ledger) Claim(pod *corev1.Pod, node string, devices []alloc.DeviceShare, c Claim) (before *Entry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.Get(pod.UID)
	if before != nil && before.State != Claimed {
		return nil, fmt.Errorf("pod %s/%s is already booked on node %s", before.Namespace, before.Name, before.Node)
	}
	e := l.newEntry(pod, node, Claimed, &Allocation{Devices: devices})
	e.Claim = &c
	l.put(e)
	return before, nil
}

// Unclaim takes back what a nominated pod holds. It returns the claim, or nil.
func (l *Ledger) Unclaim(uid types.UID) (before *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.Get(uid)
	if before == nil || before.State != Claimed {
		return nil
	}
	l.delete(before)
	return before
}

// ClaimOf returns the claim of a pod that waits, or nil.
func (l *Ledger) ClaimOf(uid types.UID) *Entry {
	if e := l.Get(uid); e != nil && e.State == Claimed {
		return e
	}
	return nil
}

// ClaimsOn returns the claims on a node. The slice must not be changed.
func (l *Ledger) ClaimsOn(node string) []*Entry {
	if list, ok := l.claims.Load(node); ok {
		return *list.(*nodeList).Load()
	}
	return nil
}

// EachClaim calls f for the claims on all nodes.
func (l *Ledger) EachClaim(f func(*Entry)) {
	l.claims.Range(func(_, list any) bool {
		for _, e := range *list.(*nodeList).Load() {
			f(e)
		}
		return true
	})
}

// claimed returns the claim behind an entry: its own, or that of a promise which may yet be taken back.
func (e *Entry) claimed() *Entry {
	switch {
	case e == nil:
		return nil
	case e.State == Claimed:
		return e
	}
	return e.replaced
}

// IsLost says whether the place of a claim went to another pod.
func (e *Entry) IsLost() bool { return e.State == Claimed && len(e.Allocation.Devices) == 0 }

// countsFor says whether a claim counts for a pod of a priority at a moment.
func (e *Entry) countsFor(priority int32, now time.Time) bool {
	return e.Priority >= priority && !now.Before(e.Claim.HoldsFrom)
}
