// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

func TestPeaksAreTakenFromReadyPodsWholly(t *testing.T) {
	running := func(p *corev1.Pod) {
		p.Spec.NodeName = "n1"
		p.Annotations[berthv1alpha1.AnnotationAllocation] = `{"version":1,"devices":[{"uuid":"GPU-a","memory":"1073741824"},{"uuid":"GPU-b","memory":"1073741824"}]}`
		p.Status.StartTime = &metav1.Time{Time: testTime}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testTime)}}
	}
	process := func(uid types.UID, memory string) berthv1alpha1.GPUProcess {
		return berthv1alpha1.GPUProcess{PodUID: uid, Memory: resource.MustParse(memory)}
	}
	report := func(a, b []berthv1alpha1.GPUProcess) *berthv1alpha1.GPUNode {
		return &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: berthv1alpha1.GPUNodeStatus{
			Devices: []berthv1alpha1.GPUDevice{{UUID: "GPU-a", Processes: a}, {UUID: "GPU-b", Processes: b}},
		}}
	}
	both := report(
		[]berthv1alpha1.GPUProcess{process("uid-p", "1Gi"), process("", "5Gi"), process("uid-other", "7Gi")},
		[]berthv1alpha1.GPUProcess{process("uid-p", "3Gi")})
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		report *berthv1alpha1.GPUNode
		since  *metav1.Time
		want   []string
	}{
		{"a Ready pod on all its devices", nil, both, nil, []string{"llama.cpp [3Gi 1Gi] 1 2Gi"}},
		{"a pod that loads", func(p *corev1.Pod) { p.Status.Conditions = nil }, both, nil, nil},
		{"a pod that goes", func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: testTime}
			p.Finalizers = []string{"x/y"}
		}, both, nil, nil},
		{"a pod that is measured on one of its devices", nil, report([]berthv1alpha1.GPUProcess{process("uid-p", "1Gi")}, nil), nil, nil},
		{"a pod without an allocation", func(p *corev1.Pod) { delete(p.Annotations, berthv1alpha1.AnnotationAllocation) }, both, nil, nil},
		{"a pod without a model", func(p *corev1.Pod) { delete(p.Annotations, berthv1alpha1.AnnotationModel) }, both, nil, nil},
		{"a pod that started before the model changed", nil, both, &metav1.Time{Time: testTime.Add(time.Hour)}, nil},
		{"a pod that started after the model changed", nil, both, &metav1.Time{Time: testTime.Add(-time.Hour)}, []string{"llama.cpp [3Gi 1Gi] 1 2Gi"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := modelPod("p", running)
			if tc.change != nil {
				tc.change(pod)
			}
			profile := &berthv1alpha1.ModelProfile{
				ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source)},
				Spec:       berthv1alpha1.ModelProfileSpec{Source: source},
				Status:     berthv1alpha1.ModelProfileStatus{RevisionTime: tc.since},
			}
			w := newWorld(t, pod, profile, tc.report)
			for range 3 { // a report that comes again is not another sample
				if _, err := w.peaks.Reconcile(t.Context(), request("", "n1")); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(profile), profile); err != nil {
				t.Fatal(err)
			}
			if got := summary(&profile.Status); !slices.Equal(got, tc.want) {
				t.Errorf("peaks %q, want %q", got, tc.want)
			}
			if tc.want != nil && profile.Status.ObservedPeaks[0].Settings.ContextLength != 8192 {
				t.Errorf("settings %+v, want the context of the command line", profile.Status.ObservedPeaks[0].Settings)
			}
			w.delete(tc.report)
			if _, err := w.peaks.Reconcile(t.Context(), request("", "n1")); err != nil || len(w.peaks.measured) != 0 {
				t.Errorf("%v, %d nodes are remembered that are gone", err, len(w.peaks.measured))
			}
		})
	}
}
