// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podcheck

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// annotationStart begins the path by which a variable refers to an annotation.
const annotationStart = "metadata.annotations['"

// handedOver returns in which form a pod's container runtime is told GPUs, and which; "" if it is told none by Berth. A
// pod of the device manager, or one that names its GPUs itself, shows nothing of a form.
func handedOver(pod *corev1.Pod) (form berthv1alpha1.DeviceForm, devices []string) {
	if pod.Annotations[berthv1alpha1.AnnotationAllocation] == "" {
		return "", nil
	}
	for key, value := range pod.Annotations {
		if strings.HasPrefix(key, berthv1alpha1.NRIAnnotationPrefix) {
			return berthv1alpha1.DeviceFormNRI, names(value)
		}
	}
	value := pod.Annotations[referenceOf(pod)]
	switch {
	case value == "":
		return "", nil
	case strings.HasPrefix(value, berthv1alpha1.CDIKindRuntime+"="):
		return berthv1alpha1.DeviceFormCDI, names(value)
	}
	return berthv1alpha1.DeviceFormUUID, names(value)
}

// names returns the names of devices without their kinds.
func names(list string) []string {
	out := strings.Split(list, ",")
	for i := range out {
		if _, name, ok := strings.Cut(out[i], "="); ok {
			out[i] = name
		}
	}
	return out
}

// referenceOf returns the annotation that a container's NVIDIA_VISIBLE_DEVICES refers to; "" if none does.
func referenceOf(pod *corev1.Pod) string {
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			for _, e := range containers[i].Env {
				if e.Name != berthv1alpha1.EnvVisibleDevices || e.ValueFrom == nil || e.ValueFrom.FieldRef == nil {
					continue
				}
				if key, ok := strings.CutPrefix(e.ValueFrom.FieldRef.FieldPath, annotationStart); ok {
					return strings.TrimSuffix(key, "']")
				}
			}
		}
	}
	return ""
}

// handlerOf returns the runtime handler of a pod. The controller does not read RuntimeClasses: their handlers are mostly called
// as they are, and if one is not, its pods just show nothing of it.
func handlerOf(pod *corev1.Pod) string {
	if pod.Spec.RuntimeClassName == nil {
		return ""
	}
	return *pod.Spec.RuntimeClassName
}

// startedAt returns when the newest of a pod's containers that run was started; the zero time if none runs.
func startedAt(pod *corev1.Pod) (at time.Time) {
	for _, s := range statuses(pod) {
		if r := s.State.Running; r != nil && r.StartedAt.After(at) {
			at = r.StartedAt.Time
		}
	}
	return at
}

// triedBefore says whether a pod's last attempt to start ended before some time, as far as the kubelet tells.
func triedBefore(pod *corev1.Pod, at time.Time) bool {
	var last time.Time
	for _, s := range statuses(pod) {
		for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
			if t := state.Terminated; t != nil && t.FinishedAt.After(last) {
				last = t.FinishedAt.Time
			}
		}
	}
	return !last.IsZero() && !last.After(at)
}

func statuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}
