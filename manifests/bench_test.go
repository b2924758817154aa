// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkAdmission is the time of a dry run of creating a pod: of one that is none of Berth's, which the policies
// should not slow down, and of one with a request.
func BenchmarkAdmission(b *testing.B) {
	if cluster == nil {
		b.Skip("needs a control plane")
	}
	pods := cluster.admin.CoreV1().Pods(metav1.NamespaceDefault)
	plain := requestingPod("plain")
	plain.Annotations, plain.Spec.SchedulerName = nil, corev1.DefaultSchedulerName
	for name, pod := range map[string]*corev1.Pod{"plain": plain, "request": requestingPod("request")} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := pods.Create(b.Context(), pod, dryRun); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
