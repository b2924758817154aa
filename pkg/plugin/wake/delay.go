// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// refusals is when pods were refused first; by a new leader it is counted anew.
type refusals struct {
	mu    sync.Mutex
	first map[types.UID]time.Time
}

// at returns when a pod was refused first, which is now if it never was.
func (r *refusals) at(pod types.UID, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, ok := r.first[pod]
	if !ok {
		if r.first == nil {
			r.first = map[types.UID]time.Time{}
		}
		first, r.first[pod] = now, now
	}
	return first
}

func (r *refusals) forget(pod types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.first, pod)
}

// EvictsFrom returns from when on others may be evicted for a pod that is refused now: preemptionDelay after it was refused
// first. It is retried then. The zero time = they may be now.
func (w *Waker) EvictsFrom(pod *corev1.Pod) time.Time {
	delay := w.Args.PreemptionDelay.Duration
	if delay == 0 {
		return time.Time{}
	}
	uid, now := pod.UID, w.Clock.Now()
	from := w.refusals.at(uid, now).Add(delay)
	if !w.Exists(pod) {
		w.refusals.forget(uid) // nobody else would: that it is gone may have been told before
	}
	if !now.Before(from) {
		return time.Time{}
	}
	w.Timers.At("delay/"+string(uid), from, func() {
		if p := w.Parked.Get(uid); p != nil {
			w.Activate([]*parked.Pod{p})
		}
	})
	return from
}
