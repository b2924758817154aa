// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package noderesource

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// TrimPod keeps of a pod, in trimmed, the sum of what it asks for by the resource, as a resource of the whole pod.
func TrimPod(trimmed, pod *corev1.Pod) {
	if !berthv1alpha1.AsksByResource(pod) {
		return
	}
	sum := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})[berthv1alpha1.ResourceGPUMemory]
	trimmed.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: sum}}
}

// TrimNode keeps of a Node what it advertises of the resource.
func TrimNode(node *corev1.Node) *corev1.Node {
	trimmed := &corev1.Node{
		TypeMeta:   node.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
	}
	keep := func(list corev1.ResourceList) corev1.ResourceList {
		q, ok := list[berthv1alpha1.ResourceGPUMemory]
		if !ok {
			return nil
		}
		return corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: q}
	}
	trimmed.Status.Capacity, trimmed.Status.Allocatable = keep(node.Status.Capacity), keep(node.Status.Allocatable)
	return trimmed
}

// Of returns what a Node advertises of the resource, in bytes; negative if it does not list it. A Node that lists it in one of
// capacity and allocatable only, or in both as something else, advertises the smaller one: that is to be mended.
func Of(node *corev1.Node) int64 {
	c, hasC := node.Status.Capacity[berthv1alpha1.ResourceGPUMemory]
	a, hasA := node.Status.Allocatable[berthv1alpha1.ResourceGPUMemory]
	switch {
	case hasC && hasA:
		return min(c.Value(), a.Value())
	case hasC || hasA:
		return 0
	}
	return -1
}
