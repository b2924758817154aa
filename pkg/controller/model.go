// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Names of the indices of cached pods.
const (
	// indexProfile is the name of the profile of a pod's model, for pods that are not over.
	indexProfile = "berth.profile"
	indexUID     = "berth.uid"
)

// profileNameOf returns the name of the profile of the pod's model, "" if it needs none.
func profileNameOf(pod *corev1.Pod) string {
	source := pod.Annotations[berthv1alpha1.AnnotationModel]
	if source == "" || pod.Spec.SchedulerName != berthv1alpha1.SchedulerName || isOver(pod) {
		return ""
	}
	return berthv1alpha1.ModelProfileName(source)
}

func isOver(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// isGated says whether the pod waits for its model's profile: a pod whose memory is written down does not.
func isGated(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && pod.Annotations[berthv1alpha1.AnnotationGPUMemory] == ""
}

// isManaged says whether the controller made the profile, and may delete it.
func isManaged(p *berthv1alpha1.ModelProfile) bool {
	return p.Labels[berthv1alpha1.LabelManagedBy] == berthv1alpha1.ManagedByController
}
