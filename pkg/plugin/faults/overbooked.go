// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/history"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// OverbookedGrace is how long a device must be overbooked before anything is done: after a relist the informer tells of
// new pods before it tells of those that are gone.
const OverbookedGrace = 5 * time.Second

// overbooked is who was told of devices that have more booked on them than they have memory, see
// gpustate.Tracker.Overbooked.
type overbooked struct {
	mu sync.Mutex
	// told are the pods that stay although they should not be there, and were told.
	told map[types.UID]bool
}

// tell says whether a pod is to be told: once.
func (o *overbooked) tell(pod *corev1.Pod) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told == nil {
		o.told = map[types.UID]bool{}
	}
	first := !o.told[pod.UID]
	o.told[pod.UID] = true
	return first
}

func (o *overbooked) forget(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.told, uid)
}

// WatchBookings looks whether devices of a node are overbooked, after its bookings or its report changed. Only a leader
// does, once its books are right.
func (w *Watcher) WatchBookings(node string) {
	if !w.Recovered() {
		return
	}
	if devices, _ := w.Tracker.Overbooked(node); devices > 0 {
		w.Timers.At("overbooked/"+node, w.Clock.Now().Add(OverbookedGrace), func() { w.repair(node) })
	}
}

// repair makes the pods leave that should not be on the devices of a node, unless they are Ready: those are told, and an
// admin decides.
func (w *Watcher) repair(node string) {
	defer w.WatchBookings(node) // until it is well
	_, surplus := w.Tracker.Overbooked(node)
	for i := range surplus {
		s := &surplus[i]
		what := fmt.Sprintf("GPU %d (%s) of node %s is overbooked: %s is booked, of %s", s.Device.Index, s.Device.UUID, node, s.Booked, s.Usable)
		if s.Ready {
			if w.overbooked.tell(s.Pod) {
				klog.Background().Info("Overbooked GPU, the pod is Ready and stays", "pod", klog.KObj(s.Pod), "what", what)
				w.Event(s.Pod, nil, corev1.EventTypeWarning, words.EventOverbooked, words.ActionEvict, what+
					". This pod came last and is Ready, so it stays; it, or another one there, may run out of memory. Delete one of them when it suits you")
			}
			continue
		}
		if err := w.deleteSurplus(s); err != nil {
			klog.Background().Error(err, "Could not delete a pod from an overbooked GPU", "pod", klog.KObj(s.Pod), "what", what)
			continue
		}
		w.History.Evicted(context.Background(), s.Pod, w.BookedFor(s.Pod), history.Overbooked, nil)
		w.Event(s.Pod, nil, corev1.EventTypeWarning, words.EventOverbooked, words.ActionEvict, what+
			". This pod came last and is not Ready, so it was deleted")
	}
}

// deleteSurplus deletes a pod, if it still is as it was when it was judged. It is no eviction that a
// PodDisruptionBudget could refuse: a pod that is not Ready serves nobody, and its memory is another's.
func (w *Watcher) deleteSurplus(s *gpustate.Surplus) error {
	if err := w.Leader.Holds(w.Args.BindTimeout.Duration); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.Args.BindTimeout.Duration)
	defer cancel()
	preconditions := &metav1.Preconditions{UID: &s.Pod.UID, ResourceVersion: &s.Pod.ResourceVersion}
	err := w.Handle.ClientSet().CoreV1().Pods(s.Pod.Namespace).Delete(ctx, s.Pod.Name, metav1.DeleteOptions{Preconditions: preconditions})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
