// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
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

// BenchmarkBinding is the time of a dry run of binding a pod without a request, for which berth-binding searches those of
// its namespace that wait, beside none and beside 10,000; and of a Binding that carries an allocation, which is not searched.
func BenchmarkBinding(b *testing.B) {
	if cluster == nil {
		b.Skip("needs a control plane")
	}
	config := cluster.config(schedulerUser, nil)
	config.QPS = -1
	pods := kubernetes.NewForConfigOrDie(config).CoreV1().Pods(metav1.NamespaceDefault)
	admin := cluster.config(adminUser, nil)
	admin.QPS = -1
	creator := kubernetes.NewForConfigOrDie(admin).CoreV1().Pods(metav1.NamespaceDefault)
	plain := requestingPod("binds")
	plain.Annotations, plain.Spec.SchedulerName = nil, corev1.DefaultSchedulerName
	if _, err := creator.Create(b.Context(), plain, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}
	b.Cleanup(func() {
		if err := creator.DeleteCollection(context.WithoutCancel(b.Context()), now, metav1.ListOptions{}); err != nil {
			b.Error(err)
		}
	})
	made := 0
	for _, waiting := range []int{0, 1000, 10000} {
		var group sync.WaitGroup
		turns := make(chan struct{}, 16)
		for ; made < waiting; made++ {
			pod := requestingPod(fmt.Sprintf("waits-%d", made))
			turns <- struct{}{}
			group.Go(func() {
				defer func() { <-turns }()
				if _, err := creator.Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
					b.Error(err)
				}
			})
		}
		group.Wait()
		for name, labels := range map[string]map[string]string{"plain": nil, "allocated": {berthv1alpha1.LabelAllocated: "true"}} {
			b.Run(fmt.Sprintf("%s/waiting=%d", name, waiting), func(b *testing.B) {
				binding := &corev1.Binding{
					ObjectMeta: metav1.ObjectMeta{Name: plain.Name, Labels: labels},
					Target:     corev1.ObjectReference{Kind: "Node", Name: "node"},
				}
				for b.Loop() {
					if err := pods.Bind(b.Context(), binding, dryRun); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
