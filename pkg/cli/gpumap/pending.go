// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// isPending says whether a pod waits for Berth to place it.
func isPending(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == berthv1alpha1.SchedulerName && pod.Spec.NodeName == "" &&
		pod.DeletionTimestamp == nil && !gpustate.HasEnded(pod)
}

func (b *builder) pending(pod *corev1.Pod) PendingPod {
	return PendingPod{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Since: pod.CreationTimestamp,
		GPUMemory:     pod.Annotations[berthv1alpha1.AnnotationGPUMemory],
		Model:         redact.URI(pod.Annotations[berthv1alpha1.AnnotationModel]),
		GPUCount:      pod.Annotations[berthv1alpha1.AnnotationGPUCount],
		NominatedNode: pod.Status.NominatedNodeName,
		Reason:        b.pendingReason(pod),
	}
}

// pendingReason is what the scheduler wrote on the pod; where it could not try the pod yet, why.
func (b *builder) pendingReason(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	model := pod.Annotations[berthv1alpha1.AnnotationModel]
	if model != "" && pod.Annotations[berthv1alpha1.AnnotationGPUMemory] == "" {
		var profile *berthv1alpha1.ModelProfile
		for _, name := range berthv1alpha1.ModelProfileNames(model) {
			if p := b.profiles[name]; profile == nil && p != nil && p.IsOf(model) {
				profile = p
			}
		}
		if profile == nil {
			return fmt.Sprintf("%s: there is no ModelProfile yet", gpustate.ReasonModelUnknown)
		}
		if c := profile.ReadyCondition(); c != nil && !profile.IsReady() {
			return fmt.Sprintf("%s: %s", gpustate.ReasonModelUnknown, c.Message)
		}
	}
	return fmt.Sprintf("not tried yet by the scheduler %q", berthv1alpha1.SchedulerName)
}
