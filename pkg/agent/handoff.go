// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// PodSource knows the pods of the agent's node. The pods must not be changed.
type PodSource interface {
	PodByUID(uid types.UID) (*corev1.Pod, bool)
	PodByName(name types.NamespacedName) (*corev1.Pod, bool)
	Pods() []*corev1.Pod
}

// EventRecorder writes a warning on a pod. It must not block.
type EventRecorder interface {
	Warn(pod *corev1.Pod, reason, note string)
}

// Reasons of the Events on pods.
const (
	// EventHandOffMismatch: the pod's processes use other GPUs than those that the pod was given.
	EventHandOffMismatch = "GPUHandOffMismatch"
	// EventMemoryOveruse: the pod's processes hold more memory on a GPU than the pod booked.
	EventMemoryOveruse = "GPUMemoryOveruse"
	// EventHandOffFailed: the pod's container cannot start because the container runtime does not hand it its GPUs.
	EventHandOffFailed = "GPUHandOffFailed"
)

const (
	// confirmedAfter is how long something must be seen before an Event tells of it.
	confirmedAfter = 2 * time.Second
	// repeatedAfter is when an Event tells of it again while it lasts: before the API server forgets the first.
	repeatedAfter = 30 * time.Minute
	// unusedAfter is how long after the pod is Ready all its GPUs should be in use.
	unusedAfter = time.Minute
)

// handOffChecker compares what pods were given with what their processes use. The report is not touched by it:
// memory is charged where it really is.
type handOffChecker struct {
	pods   PodSource
	booked func(*corev1.Pod) (map[string]uint64, error)
	events EventRecorder
	margin uint64

	findings map[findingKey]*finding
	bookings map[types.UID]*booking
}

// booking is a decoded allocation, remembered because pods change far less often than readings are made.
type booking struct {
	resourceVersion string
	devices         map[string]uint64
	err             error
	listed          bool
}

type findingKey struct {
	pod    types.UID
	reason string
	device string
}

// finding is something wrong with a pod, for as long as it lasts.
type finding struct {
	since  time.Time
	toldAt time.Time
	listed bool
}

func newHandOffChecker(o *Options) *handOffChecker {
	return &handOffChecker{
		pods:     o.Pods,
		booked:   o.Booked,
		events:   o.Events,
		margin:   o.OveruseMargin,
		findings: map[findingKey]*finding{},
		bookings: map[types.UID]*booking{},
	}
}

// check looks at all pods of a report and tells of what it finds. without are pods that are known to lack their GPUs.
func (c *handOffChecker) check(
	ctx context.Context, s *berthv1alpha1.GPUNodeStatus, without []types.UID, now time.Time, counters *counters,
) {
	if c.pods == nil || c.booked == nil {
		return
	}
	for uid, measured := range measuredByPod(s) {
		pod, ok := c.pods.PodByUID(uid)
		if !ok {
			continue // gone, or not seen yet
		}
		booked, err := c.bookingOf(pod)
		if err != nil {
			klog.FromContext(ctx).V(4).Info("Allocation not read", "pod", klog.KObj(pod), "err", err)
			continue
		}
		for _, f := range compare(pod, measured, booked, c.margin, now) {
			c.tell(ctx, pod, f, now, counters)
		}
	}
	for _, pod := range c.pods.Pods() {
		if message, failed := berthv1alpha1.HandOffFailure(pod); failed && pod.Annotations[berthv1alpha1.AnnotationAllocation] != "" {
			c.tell(ctx, pod, deviation{reason: EventHandOffFailed, note: handOffNote(pod, message)}, now, counters)
		}
		if slices.Contains(without, pod.UID) {
			c.tell(ctx, pod, deviation{reason: EventHandOffFailed, note: "The container was started without the pod's GPUs: no NRI " +
				"plugin added them. See that the NVIDIA container toolkit runs as one on the node, and delete the pod."}, now, counters)
		}
	}
	c.endCheck()
}

// handOffNote says why a container does not get its GPUs, and what to set. Events are cut at their end, so the advice
// comes first.
func handOffNote(pod *corev1.Pod, message string) string {
	advice := "See docs/handoff.md."
	form, _ := handedOver(pod)
	switch {
	case form == berthv1alpha1.DeviceFormUUID && strings.Contains(message, "unresolvable CDI devices"):
		advice = "On this node GPUs have to be named in full: let " + berthv1alpha1.EnvVisibleDevices + " refer to the annotation " +
			berthv1alpha1.AnnotationVisibleDevices + ", or set nvidia-container-runtime.modes.cdi.default-kind of the node's " +
			"container toolkit to runtime.nvidia.com/gpu."
	case form == berthv1alpha1.DeviceFormCDI && refutes(message):
		advice = "On this node GPUs have to be named by UUID: set nvidia-container-runtime.mode of the node's container toolkit " +
			"to auto, or the annotation berth.dev/hand-off of the node to UUID."
	}
	return "The container cannot start because its runtime does not give it its GPUs. " + advice + " The kubelet says: " + message
}

// bookingOf returns what a pod has booked, decoded once for each version of the pod.
func (c *handOffChecker) bookingOf(pod *corev1.Pod) (map[string]uint64, error) {
	b := c.bookings[pod.UID]
	if b == nil || b.resourceVersion != pod.ResourceVersion {
		b = &booking{resourceVersion: pod.ResourceVersion}
		b.devices, b.err = c.booked(pod)
		c.bookings[pod.UID] = b
	}
	b.listed = true
	return b.devices, b.err
}

// endCheck forgets what the check did not come across.
func (c *handOffChecker) endCheck() {
	for k, f := range c.findings {
		if !f.listed {
			delete(c.findings, k)
		}
		f.listed = false
	}
	for k, b := range c.bookings {
		if !b.listed {
			delete(c.bookings, k)
		}
		b.listed = false
	}
}

// measuredByPod returns what each pod holds, in bytes by device.
func measuredByPod(s *berthv1alpha1.GPUNodeStatus) map[types.UID]map[string]uint64 {
	pods := map[types.UID]map[string]uint64{}
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.AssignedTo != "" {
			continue // the device manager's, not ours
		}
		for j := range d.Processes {
			p := &d.Processes[j]
			if p.PodUID == "" {
				continue
			}
			if pods[p.PodUID] == nil {
				pods[p.PodUID] = map[string]uint64{}
			}
			pods[p.PodUID][d.UUID] = uint64(p.Memory.Value())
		}
	}
	return pods
}

// tell writes an Event when a finding is confirmed, and now and then while it lasts.
func (c *handOffChecker) tell(ctx context.Context, pod *corev1.Pod, d deviation, now time.Time, counters *counters) {
	k := findingKey{pod.UID, d.reason, d.device}
	f := c.findings[k]
	if f == nil || now.Before(f.since) {
		f = &finding{since: now}
		c.findings[k] = f
	}
	f.listed = true
	if now.Sub(f.since) < confirmedAfter || !f.toldAt.IsZero() && now.Sub(f.toldAt) < repeatedAfter {
		return
	}
	if f.toldAt.IsZero() {
		counters.deviation(d.reason)
	}
	f.toldAt = now
	klog.FromContext(ctx).Info("Pod deviates from its allocation",
		"pod", klog.KObj(pod), "reason", d.reason, "device", d.device, "message", d.note)
	if c.events != nil {
		c.events.Warn(pod, d.reason, d.note)
	}
}

// deviation is one difference between an allocation and what is measured.
type deviation struct {
	reason, device, note string
}

// compare returns how what a pod's processes hold (bytes by device) deviates from what it booked: devices that it
// was not given, more memory than booked and margin, and, once the pod has been Ready for a while, devices that it
// was given and leaves unused while it uses others. Pods of other schedulers have no allocation to deviate from.
func compare(pod *corev1.Pod, measured, booked map[string]uint64, margin uint64, now time.Time) []deviation {
	if booked == nil && pod.Spec.SchedulerName != berthv1alpha1.SchedulerName {
		return nil
	}
	var out []deviation
	for device, bytes := range measured {
		want, given := booked[device]
		switch {
		case !given:
			out = append(out, deviation{EventHandOffMismatch, device, fmt.Sprintf(
				"The pod's processes hold %s on GPU %s, which is not in its allocation (%s). "+
					"Does the container set NVIDIA_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES itself?",
				alloc.BytesOf(bytes), device, allocationText(booked))})
		case want > 0 && bytes > want+margin:
			out = append(out, deviation{EventMemoryOveruse, device, fmt.Sprintf(
				"The pod's processes hold %s on GPU %s, of which %s is booked. "+
					"Other pods are placed by what is measured; raise %s, or lower what the engine takes.",
				alloc.BytesOf(bytes), device, alloc.BytesOf(want), berthv1alpha1.AnnotationGPUMemory)})
		}
	}
	if readyFor(pod, now) >= unusedAfter {
		for device := range booked {
			if _, used := measured[device]; !used {
				out = append(out, deviation{EventHandOffMismatch, device, fmt.Sprintf(
					"The pod was given GPU %s but none of its processes uses it, while they use %s.",
					device, strings.Join(sortedKeys(measured), ", "))})
			}
		}
	}
	return out
}

// readyFor returns for how long a pod has been Ready; zero if it is not.
func readyFor(pod *corev1.Pod, now time.Time) time.Duration {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return max(0, now.Sub(c.LastTransitionTime.Time))
		}
	}
	return 0
}

func allocationText(booked map[string]uint64) string {
	if len(booked) == 0 {
		return "it has none"
	}
	return strings.Join(sortedKeys(booked), ", ")
}

func sortedKeys(m map[string]uint64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
