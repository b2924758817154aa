// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// reportedAfter is how long after a container started its node's agent has certainly asked the kubelet for its
	// devices, or said that it got no answer: it asks every 5 s, waits 5 s for the answer, and reports a second later.
	// The rest is for clocks that differ.
	reportedAfter = 15 * time.Second
	// unreportedFor is for how long a pod may hold GPUs that no report tells of, where reports never count as stale.
	unreportedFor = time.Minute
)

// UnreportedUntil says until when a pod on a node may hold GPUs of the device plugin that no report tells of, because
// the kubelet has not admitted it yet or the agent has not asked since; zero if it holds none. After that it is believed
// not to: the wait is for evidence that comes within seconds, and what may never come must not close a node for good.
// heard is when the node's agent last said that its report is true.
func (p *Policy) UnreportedUntil(pod *corev1.Pod, heard, now time.Time) time.Time {
	if HasEnded(pod) || pod.Spec.NodeName == "" || !p.mayHoldGPUs(pod, heard) {
		return time.Time{}
	}
	return scheduledAt(pod, now).Add(cmp.Or(p.StaleAfter, unreportedFor))
}

// scheduledAt returns when a pod was bound. The apiserver says so in the write that binds. A pod that it calls pending is
// assumed by this scheduler: it is being bound now. One of which it says nothing was made with its node, or is tried for
// the first time.
func scheduledAt(pod *corev1.Pod, now time.Time) time.Time {
	if at, bound := boundAt(pod); bound {
		return at
	}
	pending := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	if pending || pod.CreationTimestamp.IsZero() {
		return now
	}
	return pod.CreationTimestamp.Time
}

// mayHoldGPUs says whether any container of a pod may hold GPUs though no report has the pod. The kubelet gives them out
// when it admits the pod, and lists those of regular containers and sidecars, whatever they do; those of init containers
// it never lists, and nobody uses them once they are done.
func (p *Policy) mayHoldGPUs(pod *corev1.Pod, heard time.Time) bool {
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		switch status := statusOf(pod.Status.InitContainerStatuses, c.Name); {
		case !p.asksForGPUs(c):
		case c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways:
			if !reportedBy(status, heard) {
				return true
			}
		case pod.Status.Phase != corev1.PodRunning && (status == nil || status.State.Terminated == nil):
			return true // a pod runs once they are done
		}
	}
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return p.asksForGPUs(&c) && !reportedBy(statusOf(pod.Status.ContainerStatuses, c.Name), heard)
	})
}

// reportedBy says whether a report that is true at a moment tells of the devices of a container.
func reportedBy(status *corev1.ContainerStatus, heard time.Time) bool {
	return status != nil && status.State.Running != nil && heard.Sub(status.State.Running.StartedAt.Time) >= reportedAfter
}

func statusOf(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

// asksForGPUs says whether a container asks the kubelet for GPUs.
func (p *Policy) asksForGPUs(c *corev1.Container) bool { return p.offersGPUs(c.Resources.Limits) }

// RequestsGPUs says whether any container of a pod asks the kubelet for GPUs, by whatever name.
func (p *Policy) RequestsGPUs(pod *corev1.Pod) bool {
	asks := func(c corev1.Container) bool { return p.asksForGPUs(&c) }
	return slices.ContainsFunc(pod.Spec.Containers, asks) || slices.ContainsFunc(pod.Spec.InitContainers, asks)
}

// AdvertisesGPUs says whether a device plugin gives GPUs of the node away, by whatever name.
func (p *Policy) AdvertisesGPUs(node *corev1.Node) bool { return p.offersGPUs(node.Status.Allocatable) }

// offersGPUs says whether a list of resources has any GPU.
func (p *Policy) offersGPUs(list corev1.ResourceList) bool {
	if len(list) == 0 {
		return false
	}
	for _, name := range p.GPUResources {
		if q := list[corev1.ResourceName(name)]; q.Sign() > 0 {
			return true
		}
	}
	return berthv1alpha1.WholeGPUs(list) > 0
}
