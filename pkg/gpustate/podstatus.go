// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// starts counts the container starts of a pod that the kubelet tells of.
func starts(pod *corev1.Pod) (n int32) {
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		n += c.RestartCount
		if c.State.Running != nil || c.State.Terminated != nil {
			n++
		}
	}
	return n
}

// lastStart returns when the newest container of the pod started, by the kubelet's clock; the zero time if none runs.
func lastStart(pod *corev1.Pod) (last time.Time) {
	for i := range pod.Status.ContainerStatuses {
		if r := pod.Status.ContainerStatuses[i].State.Running; r != nil && r.StartedAt.After(last) {
			last = r.StartedAt.Time
		}
	}
	return last
}

// firstStart returns when the first container of the pod started, as the kubelet tells it; false if none did. After
// a restart the kubelet only tells when the last one started, so then it is when the pod was accepted by the node: a
// crash loop must not look like a fresh start.
func firstStart(pod *corev1.Pod) (time.Time, bool) {
	var first time.Time
	found := false
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		var at time.Time
		switch {
		case c.RestartCount > 0 || c.LastTerminationState.Terminated != nil:
			if pod.Status.StartTime != nil {
				at = pod.Status.StartTime.Time
			}
		case c.State.Running != nil:
			at = c.State.Running.StartedAt.Time
		case c.State.Terminated != nil:
			at = c.State.Terminated.StartedAt.Time
		default:
			continue
		}
		if !found || at.Before(first) {
			first, found = at, true
		}
	}
	return first, found
}

// IsReady says whether a pod is Ready.
func IsReady(pod *corev1.Pod) bool {
	_, ready := readySince(pod)
	return ready
}

// HasLoaded says whether a pod is Ready, and had the time to load since its newest container started. Ready alone does not say
// that a model is loaded: a pod without a readiness probe is Ready at once.
func (v *Viewer) HasLoaded(pod *corev1.Pod) bool {
	start := lastStart(pod)
	return IsReady(pod) && !start.IsZero() && !v.Snapshot.now.Before(start.Add(v.Policy.LoadTimeout))
}

// readySince returns since when the pod has been Ready; false if it is not.
func readySince(pod *corev1.Pod) (time.Time, bool) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time, c.Status == corev1.ConditionTrue
		}
	}
	return time.Time{}, false
}

// boundAt returns when the pod was bound, as the API tells it; false if it is not bound there yet.
func boundAt(pod *corev1.Pod) (time.Time, bool) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

// HasEnded says whether all containers of the pod have ended for good.
func HasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// LoadingUntil returns until when a bound pod counts as loading its model: from the bind until it is Ready, at most
// loadTimeout after its first start (or, while it has not started, after the bind). The zero time = until further
// notice: the pod is not in the API as bound yet. False if it is not loading, as when its container cannot start because
// the node's runtime does not hand it its GPUs.
func LoadingUntil(pod *corev1.Pod, loadTimeout time.Duration) (until time.Time, loading bool) {
	if !mayLoad(pod) {
		return time.Time{}, false
	}
	if at, ok := firstStart(pod); ok {
		return at.Add(loadTimeout), true
	}
	if at, ok := boundAt(pod); ok {
		return at.Add(loadTimeout), true
	}
	return time.Time{}, true
}

// mayLoad says whether a bound pod is, or will be, loading its model as far as its status tells.
func mayLoad(pod *corev1.Pod) bool {
	_, ready := readySince(pod)
	_, failed := berthv1alpha1.HandOffFailure(pod)
	return !ready && !failed && !HasEnded(pod)
}

func priorityOf(pod *corev1.Pod) int32 {
	if pod.Spec.Priority != nil {
		return *pod.Spec.Priority
	}
	return 0
}
