// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// unallocatedNote is what the owner of a pod is told that is on a node without what it asks for.
const unallocatedNote = "The pod asks for GPU memory and is on a node without any: not the scheduler berth put it there, or an " +
	"older one did. Its containers see no GPU, and what they hold all the same is counted as measured. Delete it, so that it is placed anew"

// unallocated remembers who was told.
type unallocated struct {
	mu   sync.Mutex
	told map[types.UID]bool
}

// first says whether a pod is still to be told, and takes it for told.
func (u *unallocated) first(uid types.UID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.told[uid] {
		return false
	}
	if u.told == nil {
		u.told = map[types.UID]bool{}
	}
	u.told[uid] = true
	return true
}

func (u *unallocated) forget(uid types.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.told, uid)
}

// WatchUnallocated tells the owner of a pod that is bound without an allocation, once, whichever scheduler leads. It is no
// obstacle to anybody: see gpustate.BookingOf.
func (w *Watcher) WatchUnallocated(pod *corev1.Pod) {
	if gpustate.LacksAllocation(pod) && !gpustate.HasEnded(pod) && pod.DeletionTimestamp == nil && w.unallocated.first(pod.UID) {
		w.Timers.At("unallocated/"+string(pod.UID), w.Clock.Now(), func() { w.tellUnallocated(pod) })
	}
}

func (w *Watcher) tellUnallocated(pod *corev1.Pod) {
	err := w.writeOnce(pod, "gpu-unallocated."+string(pod.UID), words.EventUnallocated, unallocatedNote)
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsForbidden(err): // its namespace goes, or is gone
		klog.Background().V(2).Info("Nobody to tell that a pod was bound without an allocation", "pod", klog.KObj(pod), "err", err)
	case err != nil && !apierrors.IsAlreadyExists(err):
		klog.Background().Error(err, "Not told that a pod was bound without an allocation, trying again", "pod", klog.KObj(pod))
		w.Timers.At("unallocated/"+string(pod.UID), w.Clock.Now().Add(LostRetry), func() { w.tellUnallocated(pod) })
	default:
		klog.Background().Info("A pod asks for GPU memory and was bound without any", "pod", klog.KObj(pod), "node", pod.Spec.NodeName)
	}
}
