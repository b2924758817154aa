// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/bits"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

const (
	// LostAfter is how long something must be wrong with a device before its pods' owners are told.
	LostAfter = 2 * time.Second
	// lostTimeout bounds the request that writes the Event, and LostRetry is when a failed one is tried again.
	lostTimeout = 10 * time.Second
	LostRetry   = 30 * time.Second
	// maxEventName is how much of a pod's name goes into that of the Event.
	maxEventName = 200
)

// trouble is what became of devices that a pod was given.
type trouble struct {
	pod *corev1.Pod
	// event is the reason of the Event that tells of it, and id stands for the pod and what is told.
	event string
	id    uint64
	note  string
}

// toldTroubles remembers what owners of pods, and admins of nodes, were told of devices.
type toldTroubles struct {
	mu sync.Mutex
	// pods has the id of what was told last, by the reason of the Event; unknown are, by node, the names of cordoned GPUs that
	// are none of its own.
	pods    map[types.UID]map[string]uint64
	unknown map[string]string
	// empty is since when the report of a node is without any GPU.
	empty map[string]time.Time
}

func (t *toldTroubles) forget(pod types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pods, pod)
}

// note notes what was told of a pod.
func (t *toldTroubles) note(told *trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pods == nil {
		t.pods = map[types.UID]map[string]uint64{}
	}
	if t.pods[told.pod.UID] == nil {
		t.pods[told.pod.UID] = map[string]uint64{}
	}
	t.pods[told.pod.UID][told.event] = told.id
}

// WatchDevices tells the owners of a node's pods what became of the devices that these were given: they are reported no
// more, fail, or were cordoned. The scheduler tells, because it has the books of all nodes, also of those whose agent is
// gone. Every scheduler does, a standby too: an Event has one name for one thing, so that there is one.
func (w *Watcher) WatchDevices(node string) {
	if _, until := w.lastingReport(node); !until.IsZero() {
		w.Timers.At("no-devices/"+node, until, func() { w.tellTroubles(node) })
	} else if len(w.troubles(node)) > 0 || w.unknownCordons(node) != "" {
		w.Timers.At("devices/"+node, w.Clock.Now().Add(LostAfter), func() { w.tellTroubles(node) })
	}
}

// lastingReport returns a node's report; nil if there is none, and while nobody is told of one without any GPU, for so it looks
// while a driver is loaded anew or replaced: then it also returns until when.
func (w *Watcher) lastingReport(node string) (report *gpustate.Report, until time.Time) {
	report, _ = w.Tracker.Store.Report(node, 0)
	object, err := w.Nodes.Get(node)
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	if report == nil || len(report.Devices) > 0 {
		delete(w.told.empty, node)
		return report, time.Time{}
	}
	now := w.Clock.Now()
	since, known := w.told.empty[node]
	if !known || err == nil && berthv1alpha1.DriverGoes(object.Labels) {
		if w.told.empty == nil {
			w.told.empty = map[string]time.Time{}
		}
		since = now
		w.told.empty[node] = since
	}
	if until = since.Add(max(w.Args.DeviceLostGrace.Duration, LostAfter)); now.Before(until) {
		return nil, until
	}
	return report, time.Time{}
}

// NodeSeen looks again at the devices of a node whose cordons changed.
func (w *Watcher) NodeSeen(before, node *corev1.Node) {
	if before.Annotations[berthv1alpha1.AnnotationCordonedGPUs] != node.Annotations[berthv1alpha1.AnnotationCordonedGPUs] {
		w.WatchDevices(node.Name)
	}
}

// troubles returns what the pods of a node have not been told yet.
func (w *Watcher) troubles(node string) (out []trouble) {
	report, _ := w.lastingReport(node)
	if report == nil {
		return nil
	}
	var cordoned uint64
	if object, err := w.Nodes.Get(node); err == nil {
		cordoned, _ = report.Cordoned(object)
	}
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	for _, e := range w.Tracker.Ledger.OnNode(node) {
		if e.Pod == nil || e.Allocation == nil || e.Pod.DeletionTimestamp != nil || e.State == gpustate.Draining {
			continue
		}
		on := report.DevicesOf(e.Allocation)
		for _, t := range [...]trouble{
			{event: words.EventLost, note: lostNote(report, e.Allocation)},
			{event: words.EventUnhealthy, note: failedNote(report, on)},
			{event: words.EventCordoned, note: cordonedNote(report, on&cordoned)},
		} {
			if t.note != "" && t.event != words.EventCordoned {
				t.note += w.lostSoon(report, e.Pod)
			}
			if t.note == "" {
				delete(w.told.pods[e.UID], t.event)
				continue
			}
			h := fnv.New64a()
			fmt.Fprint(h, e.UID, " ", t.note)
			if t.pod, t.id = e.Pod, h.Sum64(); w.told.pods[e.UID][t.event] != t.id {
				out = append(out, t)
			}
		}
	}
	return out
}

// tellTroubles writes the Events.
func (w *Watcher) tellTroubles(node string) {
	if _, until := w.lastingReport(node); !until.IsZero() {
		w.WatchDevices(node)
		return
	}
	for _, t := range w.troubles(node) {
		err := w.writeOnce(t.pod, fmt.Sprintf("%s.%x", eventNames[t.event], t.id), t.event, t.note)
		if err != nil && !apierrors.IsAlreadyExists(err) {
			klog.Background().Error(err, "Not told what became of a GPU, trying again", "pod", klog.KObj(t.pod), "node", node)
			w.Timers.At("devices/"+node, w.Clock.Now().Add(LostRetry), func() { w.tellTroubles(node) })
			continue
		}
		klog.Background().Info("Told what became of a GPU that a pod was given", "pod", klog.KObj(t.pod), "node", node, "event", t.event, "note", t.note)
		w.told.note(&t)
	}
	w.tellUnknownCordons(node)
}

// eventNames are parts of the names of Events, which are in lower case.
var eventNames = map[string]string{
	words.EventLost: "gpu-lost", words.EventUnhealthy: "gpu-unhealthy", words.EventCordoned: "gpu-cordoned",
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
		Type: corev1.EventTypeWarning, Reason: reason, Action: words.ActionWatch, Note: eventnote.Fit(note),
		Regarding: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
			ResourceVersion: pod.ResourceVersion,
		},
	}, metav1.CreateOptions{})
	return err
}

// lostNote says what is lost, what became of its booking, and what to do; empty if nothing is.
func lostNote(report *gpustate.Report, a *gpustate.Allocation) string {
	devices := report.Lost(a)
	switch {
	case len(devices) == 0:
		return ""
	case len(report.Devices) == 0:
		return fmt.Sprintf("Node %s reports no GPU at all, those that the pod was given among them. If that stays so, a container that starts again gets none: ", report.Node)
	}
	note := ""
	for _, d := range devices {
		note += fmt.Sprintf("GPU %s, which the pod was given, is no longer reported by node %s", d.UUID, report.Node)
		if d.Charged {
			note += " (MIG was reconfigured; the memory stays booked on what is left of the GPU)"
		}
		note += ". "
	}
	return note + "A container that starts again will not get it: "
}

// lostSoon says what becomes of a pod whose GPU is lost, by a report.
func (w *Watcher) lostSoon(report *gpustate.Report, pod *corev1.Pod) string {
	if len(report.Devices) > 0 && w.evicts(pod, berthv1alpha1.AnnotationOnDeviceLost, w.Args.OnDeviceLost) {
		return fmt.Sprintf("the pod is evicted if that lasts %s.", w.Args.DeviceLostGrace.Duration)
	}
	return "delete the pod, so that it is placed anew."
}

// failedNote says which of some devices fail, and what to do; empty if none does.
func failedNote(report *gpustate.Report, on uint64) string {
	note := ""
	for on &= report.Failed(); on != 0; on &= on - 1 {
		i := bits.TrailingZeros64(on)
		note += fmt.Sprintf("GPU %d (%s) of node %s, which the pod was given, is unhealthy: %s. ",
			report.Devices[i].Index, report.Devices[i].UUID, report.Node, report.Unhealthy(i))
	}
	if note == "" {
		return ""
	}
	return note + "No new pod gets it. If this one does not work any more: "
}

// cordonedNote says of devices that they are cordoned; empty if there are none.
func cordonedNote(report *gpustate.Report, on uint64) string {
	note := ""
	for ; on != 0; on &= on - 1 {
		d := &report.Devices[bits.TrailingZeros64(on)]
		note += fmt.Sprintf("GPU %d (%s) of node %s, which the pod was given, is cordoned. ", d.Index, d.UUID, report.Node)
	}
	if note == "" {
		return ""
	}
	return note + "An admin keeps new pods off it, and may evict this one for a repair. Until then it runs on."
}

// unknownCordons returns what a node's annotation cordons and the node does not report, unless that was told.
func (w *Watcher) unknownCordons(node string) string {
	object, err := w.Nodes.Get(node)
	report, _ := w.lastingReport(node)
	names := ""
	if err == nil && report != nil {
		_, unknown := report.Cordoned(object)
		names = strings.Join(unknown, ", ")
	}
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	switch {
	case names == "":
		delete(w.told.unknown, node)
	case w.told.unknown[node] == names:
		return ""
	}
	return names
}

// tellUnknownCordons writes an Event on the node.
func (w *Watcher) tellUnknownCordons(node string) {
	names := w.unknownCordons(node)
	object, err := w.Nodes.Get(node)
	if names == "" || err != nil {
		return
	}
	w.told.mu.Lock()
	if w.told.unknown == nil {
		w.told.unknown = map[string]string{}
	}
	w.told.unknown[node] = names
	w.told.mu.Unlock()
	w.Event(object, nil, corev1.EventTypeWarning, words.EventCordonUnknown, words.ActionReadReport,
		fmt.Sprintf("The annotation %s names what the node does not report: %s. kubectl berth top %s -o wide has the UUIDs of its GPUs",
			berthv1alpha1.AnnotationCordonedGPUs, names, node))
}
