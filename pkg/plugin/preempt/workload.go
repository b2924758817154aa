// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package preempt

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sameWorkload says whether two pods are replicas of one workload, over the revisions of a Deployment too.
func sameWorkload(a, b *corev1.Pod) bool {
	if a.Namespace != b.Namespace {
		return false
	}
	wa, wb := WorkloadOf(a), WorkloadOf(b)
	return wa != "" && wa == wb
}

// WorkloadOf names the workload of a pod within its namespace: its Deployment if it is a Deployment's, else its
// controller; empty if it has none.
func WorkloadOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return ""
	}
	if hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; owner.Kind == "ReplicaSet" && hash != "" {
		if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok {
			return "Deployment/" + name
		}
	}
	return owner.Kind + "/" + owner.Name
}
