// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cycle

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// AskedOf returns what a pod asks for by the resource berth.dev/gpu-memory, in bytes, as kubelets count it.
func AskedOf(pod *corev1.Pod) int64 {
	if !berthv1alpha1.AsksByResource(pod) {
		return 0
	}
	q := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})[berthv1alpha1.ResourceGPUMemory]
	return q.Value()
}

// Sum is what a node advertises of the resource berth.dev/gpu-memory, and what the pods on it ask for, in bytes, as its
// kubelet counts both when a pod comes, and when it starts anew and takes in again those that run.
type Sum struct{ Advertised, Asked int64 }

// Left is what is left for another pod.
func (s Sum) Left() int64 { return s.Advertised - s.Asked }

// SumOf returns the sums of a node; false if it does not list the resource, and so its kubelet does not count it.
func SumOf(ni fwk.NodeInfo) (Sum, bool) {
	advertised, listed := ni.GetAllocatable().GetScalarResources()[berthv1alpha1.ResourceGPUMemory]
	if !listed {
		return Sum{}, false
	}
	// A kubelet that starts anew takes what can be allocated from the capacity.
	if q, ok := ni.Node().Status.Capacity[berthv1alpha1.ResourceGPUMemory]; ok {
		advertised = min(advertised, q.Value())
	}
	return Sum{advertised, ni.GetRequested().GetScalarResources()[berthv1alpha1.ResourceGPUMemory]}, true
}

// LacksBut is Lacks without the pods that are gone, though they are on the list of a NodeInfo.
func (p *Pod) LacksBut(ni fwk.NodeInfo, gone func(*corev1.Pod) bool) bool {
	if p.Asked == 0 {
		return false
	}
	sum, listed := SumOf(ni)
	for _, pi := range ni.GetPods() {
		if listed && gone(pi.GetPod()) {
			sum.Asked -= AskedOf(pi.GetPod())
		}
	}
	return listed && p.Asked > sum.Left()
}

// Lacks says whether the kubelet of a node would refuse the pod, because the node advertises less of the resource than the
// pods there and it ask for; and whether it would even if they were gone.
func (p *Pod) Lacks(ni fwk.NodeInfo) (lacks, always bool) {
	if p.Asked == 0 {
		return false, false
	}
	sum, listed := SumOf(ni)
	return listed && p.Asked > sum.Left(), listed && p.Asked > sum.Advertised
}
