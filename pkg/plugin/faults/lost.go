// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

const (
	// LostAfter is how long a device must be missing from a node's reports before its pods' owners are told.
	LostAfter = 2 * time.Second
	// lostTimeout bounds the request that writes the Event, and LostRetry is when a failed one is tried again.
	lostTimeout = 10 * time.Second
	LostRetry   = 30 * time.Second
	// maxEventName is how much of a pod's name goes into that of the Event.
	maxEventName = 200
)

// lost remembers which pods were told that a GPU of theirs is gone.
type lost struct {
	mu   sync.Mutex
	told map[types.UID]uint64
}

func (l *lost) forget(pod types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.told, pod)
}

// WatchLost tells the owners of a node's pods that were given a device which is reported no more: their containers may
// run on, but never start again. The scheduler tells, because it has the books of all nodes, also of those whose agent is
// gone. Every scheduler does, a standby too: an Event has one name for one loss, so that there is one.
func (w *Watcher) WatchLost(node string) {
	if len(w.losses(node)) > 0 {
		w.Timers.At("lost/"+node, w.Clock.Now().Add(LostAfter), func() { w.tellLosses(node) })
	}
}

// loss is a pod and the devices that it lost.
type loss struct {
	pod     *corev1.Pod
	devices []gpustate.LostDevice
	// id stands for the pod and the devices.
	id uint64
}

// losses returns the pods of a node that lost a device and were not told yet.
func (w *Watcher) losses(node string) (out []loss) {
	report, _ := w.Tracker.Store.Report(node, 0)
	if report == nil {
		return nil
	}
	w.lost.mu.Lock()
	defer w.lost.mu.Unlock()
	for _, e := range w.Tracker.Ledger.OnNode(node) {
		if e.Pod == nil || e.Allocation == nil || e.Pod.DeletionTimestamp != nil || e.State == gpustate.Draining {
			continue
		}
		devices := report.Lost(e.Allocation)
		if len(devices) == 0 {
			delete(w.lost.told, e.UID)
			continue
		}
		h := fnv.New64a()
		fmt.Fprint(h, e.UID)
		for _, d := range devices {
			fmt.Fprint(h, " ", d.UUID)
		}
		if l := (loss{e.Pod, devices, h.Sum64()}); w.lost.told[e.UID] != l.id {
			out = append(out, l)
		}
	}
	return out
}

// tellLosses writes the Events.
func (w *Watcher) tellLosses(node string) {
	for _, l := range w.losses(node) {
		err := w.writeLoss(node, &l)
		if err != nil && !apierrors.IsAlreadyExists(err) {
			klog.Background().Error(err, "Not told that a GPU is gone, trying again", "pod", klog.KObj(l.pod), "node", node)
			w.Timers.At("lost/"+node, w.Clock.Now().Add(LostRetry), func() { w.tellLosses(node) })
			continue
		}
		klog.Background().Info("A pod was given a GPU that its node reports no more", "pod", klog.KObj(l.pod), "node", node, "devices", l.devices)
		w.lost.mu.Lock()
		if w.lost.told == nil {
			w.lost.told = map[types.UID]uint64{}
		}
		w.lost.told[l.pod.UID] = l.id
		w.lost.mu.Unlock()
	}
}

func (w *Watcher) writeLoss(node string, l *loss) error {
	return w.writeOnce(l.pod, fmt.Sprintf("gpu-lost.%x", l.id), words.EventLost, lossNote(node, l.devices))
}

// writeOnce writes an Event of a pod whose name is the pod's and the given one, so that there is one, whoever writes it.
func (w *Watcher) writeOnce(pod *corev1.Pod, name, reason, note string) error {
	ctx, cancel := context.WithTimeout(context.Background(), lostTimeout)
	defer cancel()
	instance, _ := os.Hostname()
	_, err := w.Handle.ClientSet().EventsV1().Events(pod.Namespace).Create(ctx, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: fmt.Sprintf("%.*s.%s", maxEventName, pod.Name, name),
		},
		EventTime:           metav1.NewMicroTime(w.Clock.Now()),
		ReportingController: berthv1alpha1.SchedulerName, ReportingInstance: berthv1alpha1.SchedulerName + "-" + instance,
		Type: corev1.EventTypeWarning, Reason: reason, Action: words.ActionWatch, Note: note,
		Regarding: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
			ResourceVersion: pod.ResourceVersion,
		},
	}, metav1.CreateOptions{})
	return err
}

// lossNote says what is lost, what became of its booking, and what to do.
func lossNote(node string, devices []gpustate.LostDevice) string {
	note := ""
	for _, d := range devices {
		note += fmt.Sprintf("GPU %s, which the pod was given, is no longer reported by node %s", d.UUID, node)
		if d.Charged {
			note += " (MIG was reconfigured; the memory stays booked on what is left of the GPU)"
		}
		note += ". "
	}
	return note + "A container that starts again will not get it: delete the pod, so that it is placed anew."
}
