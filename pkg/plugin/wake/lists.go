// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// RetryAt retries a pod that claims something at a moment.
func (w *Waker) RetryAt(why string, uid types.UID, at time.Time) {
	w.Timers.At(why+string(uid), at, func() {
		if p := w.Parked.Get(uid); p != nil && w.Tracker.Ledger.ClaimOf(uid) != nil {
			w.Activate([]*parked.Pod{p})
		}
	})
}

// ProfileSeen retries the pods whose size a profile tells, be they gated or parked.
func (w *Waker) ProfileSeen(p *berthv1alpha1.ModelProfile) {
	if p.IsReady() {
		w.Activate(w.Parked.Of(p.Name))
		if first := berthv1alpha1.ModelProfileName(p.Spec.Source); first != p.Name {
			w.Activate(w.Parked.Of(first)) // that name is another model's
		}
	}
}

// ListFailed lists a pod that failed after it was given a place, or that has no request and whose victims are being evicted: it
// has hints, and its backoff.
func (w *Waker) ListFailed(pod *corev1.Pod) { w.list(&w.unlisted, pod) }

// ListClaimant lists a pod that is refused because it would get a GPU by a resource claim: no room helps it.
func (w *Waker) ListClaimant(pod *corev1.Pod) {
	w.list(&w.claimants, pod)
	w.Unpark(pod.UID, "")
}

// list adds a pod to a set, unless it is gone.
func (w *Waker) list(in *podSet, pod *corev1.Pod) {
	in.add(pod.UID)
	if !w.Exists(pod) {
		in.remove(pod.UID) // nobody else would: that it is gone may have been told before
	}
}

// Forget takes a pod off all lists that is bound, or gone. It returns the changes for whose sake it was woken, for PassOn.
func (w *Waker) Forget(uid types.UID) []parked.Change {
	w.unlisted.remove(uid)
	w.claimants.remove(uid)
	w.refusals.forget(uid)
	return w.Parked.Remove(uid)
}

// LongestBackoff is that of the scheduler's queue by default.
const LongestBackoff = 10 * time.Second

// AfterBackoff retries a pod whose reservation failed. Nothing was found out about the other nodes, so no change may make it
// skip its backoff; and since none may come, it is tried again when that is over for certain.
func (w *Waker) AfterBackoff(pod *corev1.Pod) {
	w.Timers.At("reserve/"+string(pod.UID), w.Clock.Now().Add(LongestBackoff), func() {
		if w.unlisted.has(pod.UID) { // else it was tried since
			w.Activate([]*parked.Pod{{Pod: pod}})
		}
	})
}
