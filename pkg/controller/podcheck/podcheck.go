// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podcheck compares what pods were given with what their node's report says that they use, and finds out which
// forms of the hand-off the pods of a node show to work. It is pure: reports and pods in, findings out.
package podcheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

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
	// unusedAfter is how long after the pod is Ready all its GPUs should be in use.
	unusedAfter = time.Minute
	// injectedAfter is how long after a container started the agent has looked at it, and the report of it has arrived:
	// the agent looks every 10 s.
	injectedAfter = 30 * time.Second
)

// Finding is something wrong with a pod.
type Finding struct {
	// Reason is one of the Events.
	Reason string
	// Device is the UUID of the GPU that it is about; empty if it is about none.
	Device string
	// Note says it to the pod's owner.
	Note string
}

// Check returns what is wrong with a pod of the node that made a report, in an order that does not change. margin is by
// how many bytes a pod may exceed its booking on a device. next is when to look again though nothing changes; zero if
// there is no need to.
func Check(pod *corev1.Pod, s *berthv1alpha1.GPUNodeStatus, margin uint64, now time.Time) (found []Finding, next time.Time) {
	if pod.Annotations[berthv1alpha1.AnnotationAllocation] != "" {
		if message, failed := berthv1alpha1.HandOffFailure(pod); failed {
			found = append(found, Finding{Reason: EventHandOffFailed, Note: handOffNote(pod, message)})
		}
	}
	if bare, at := withoutDevices(pod, s, now); bare {
		found = append(found, Finding{Reason: EventHandOffFailed, Note: "The container was started without the pod's GPUs: no NRI " +
			"plugin added them. See that the NVIDIA container toolkit runs as one on the node, and delete the pod."})
	} else {
		next = at
	}
	booked, err := gpustate.BookedOn(pod)
	measured := measuredByPod(s)[pod.UID]
	if err != nil || len(measured) == 0 {
		return found, next // of an allocation that cannot be read, the scheduler tells
	}
	deviations, at := compare(pod, measured, booked, margin, now)
	return append(found, deviations...), Earliest(next, at)
}

// Earliest returns the earlier of two times, of which the zero time is none.
func Earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// withoutDevices says whether a pod runs without the GPUs that an NRI plugin should have added; next is when that can be
// known, if it cannot yet.
func withoutDevices(pod *corev1.Pod, s *berthv1alpha1.GPUNodeStatus, now time.Time) (without bool, next time.Time) {
	if s.HandOff == nil || !slices.Contains(s.HandOff.NotInjected, pod.UID) {
		return false, time.Time{}
	}
	started := startedAt(pod)
	if form, _ := handedOver(pod); form != berthv1alpha1.DeviceFormNRI || started.IsZero() {
		return false, time.Time{}
	}
	if due := started.Add(injectedAfter); now.Before(due) {
		return false, due
	}
	return true, time.Time{}
}

// handOffNote says why a container does not get its GPUs, and what to set. Events are cut at their end, so the advice
// comes first.
func handOffNote(pod *corev1.Pod, message string) string {
	if berthv1alpha1.IsLimitFailure(message) {
		return "The container cannot start because its GPU memory limit could not be set. See docs/enforcement.md. The kubelet says: " + message
	}
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

// measuredByPod returns what each pod holds, in bytes by device.
func measuredByPod(s *berthv1alpha1.GPUNodeStatus) map[types.UID]map[string]uint64 {
	pods := map[types.UID]map[string]uint64{}
	for i := range s.Devices {
		d := &s.Devices[i]
		if len(d.Assigned()) > 0 {
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
			pods[p.PodUID][d.UUID] = uint64(max(p.Memory.Value(), 0))
		}
	}
	return pods
}

// compare returns how what a pod's processes hold (bytes by device) deviates from what it booked: devices that it
// was not given, more memory than booked and margin, and, once the pod has been Ready for a while, devices that it
// was given and leaves unused while it uses others. Pods of other schedulers have no allocation to deviate from. next is
// when the pod will have been Ready for so long, if a device is unused until then.
func compare(pod *corev1.Pod, measured, booked map[string]uint64, margin uint64, now time.Time) (out []Finding, next time.Time) {
	if booked == nil && pod.Spec.SchedulerName != berthv1alpha1.SchedulerName {
		return nil, time.Time{}
	}
	for _, device := range slices.Sorted(maps.Keys(measured)) {
		bytes := measured[device]
		want, given := booked[device]
		switch {
		case !given:
			out = append(out, Finding{EventHandOffMismatch, device, fmt.Sprintf(
				"The pod's processes hold %s on GPU %s, which is not in its allocation (%s). "+
					"Does the container set NVIDIA_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES itself?",
				alloc.BytesOf(bytes), device, allocationText(booked))})
		case want > 0 && bytes > want+margin:
			out = append(out, Finding{EventMemoryOveruse, device, fmt.Sprintf(
				"The pod's processes hold %s on GPU %s, of which %s is booked. "+
					"Other pods are placed by what is measured; raise %s, or lower what the engine takes.",
				alloc.BytesOf(bytes), device, alloc.BytesOf(want), berthv1alpha1.AnnotationGPUMemory)})
		}
	}
	ready := readySince(pod)
	for _, device := range slices.Sorted(maps.Keys(booked)) {
		if _, used := measured[device]; used || ready.IsZero() {
			continue
		}
		if due := ready.Add(unusedAfter); now.Before(due) {
			next = due
			continue
		}
		out = append(out, Finding{EventHandOffMismatch, device, fmt.Sprintf(
			"The pod was given GPU %s but none of its processes uses it, while they use %s.",
			device, strings.Join(slices.Sorted(maps.Keys(measured)), ", "))})
	}
	return out, next
}

// readySince returns when a pod became Ready; the zero time if it is not.
func readySince(pod *corev1.Pod) time.Time {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

func allocationText(booked map[string]uint64) string {
	if len(booked) == 0 {
		return "it has none"
	}
	return strings.Join(slices.Sorted(maps.Keys(booked)), ", ")
}
