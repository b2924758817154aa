// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/gpustate"
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
	of80Gi := berthv1alpha1.GPUMemory{Total: resource.MustParse("80Gi")}
	report := func(a, b []berthv1alpha1.GPUProcess) *berthv1alpha1.GPUNode {
		return &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: berthv1alpha1.GPUNodeStatus{
			Devices: []berthv1alpha1.GPUDevice{{UUID: "GPU-a", Memory: of80Gi, Processes: a}, {UUID: "GPU-b", Memory: of80Gi, Processes: b}},
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
		{"a Ready pod on all its devices", nil, both, nil, []string{"default llama.cpp [3Gi 1Gi] 1 2Gi"}},
		{"a pod that holds more than there is", nil, report(
			[]berthv1alpha1.GPUProcess{process("uid-p", "60Gi"), process("uid-p", "60Gi"), process("uid-p", "-60Gi")},
			[]berthv1alpha1.GPUProcess{process("uid-p", "9000Gi")}), nil, []string{"default llama.cpp [80Gi 80Gi] 1 79Gi"}},
		{"a pod whose booking was raised by what earlier ones held", func(p *corev1.Pod) {
			p.Annotations[berthv1alpha1.AnnotationAllocation] = `{"version":1,"correction":"536870912","devices":[{"uuid":"GPU-a","memory":"1073741824"},{"uuid":"GPU-b","memory":"1073741824"}]}`
		}, both, nil, []string{"default llama.cpp [3Gi 1Gi] 1 2560Mi"}},
		{"a pod of another node", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }, both, nil, nil},
		{"a pod that has no node", func(p *corev1.Pod) { p.Spec.NodeName = "" }, both, nil, nil},
		{"a pod that loads", func(p *corev1.Pod) { p.Status.Conditions = nil }, both, nil, nil},
		{"a pod that goes", func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: testTime}
			p.Finalizers = []string{"x/y"}
		}, both, nil, nil},
		{"a pod that is measured on one of its devices", nil, report([]berthv1alpha1.GPUProcess{process("uid-p", "1Gi")}, nil), nil, nil},
		{"a pod without an allocation", func(p *corev1.Pod) { delete(p.Annotations, berthv1alpha1.AnnotationAllocation) }, both, nil, nil},
		{"a pod without a model", func(p *corev1.Pod) { delete(p.Annotations, berthv1alpha1.AnnotationModel) }, both, nil, nil},
		{"a pod that started before the model changed", nil, both, &metav1.Time{Time: testTime.Add(time.Hour)}, nil},
		{"a pod that started after the model changed", nil, both, &metav1.Time{Time: testTime.Add(-time.Hour)}, []string{"default llama.cpp [3Gi 1Gi] 1 2Gi"}},
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
			object := objectOf(t, tc.report)
			w := newWorld(t, pod, profile, object)
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
			w.delete(object)
			if _, err := w.peaks.Reconcile(t.Context(), request("", "n1")); err != nil {
				t.Error(err)
			}
		})
	}
}

// The attack is that one node's token reports the pod and the GPU of another node, both of which it can read, with 9000Gi:
// the next pod of that model fitted nowhere.
func TestOneNodesTokenDoesNotPoisonThePeaksOfAnother(t *testing.T) {
	victim := modelPod("victim", func(p *corev1.Pod) {
		p.Spec.NodeName = "gpu-1"
		p.Annotations[berthv1alpha1.AnnotationAllocation] = `{"version":1,"devices":[{"uuid":"GPU-1","memory":"1073741824"}]}`
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testTime)}}
	})
	report := func(node, held string) client.Object {
		return objectOf(t, &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: berthv1alpha1.GPUNodeStatus{
			Devices: []berthv1alpha1.GPUDevice{{
				UUID: "GPU-1", Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse("9180Gi")},
				Processes: []berthv1alpha1.GPUProcess{{PodUID: victim.UID, Memory: resource.MustParse(held)}},
			}},
		}})
	}
	profile := &berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source)}, Spec: berthv1alpha1.ModelProfileSpec{Source: source},
	}
	w := newWorld(t, victim, profile, report("gpu-0", "9000Gi"), report("gpu-1", "3Gi"))
	for _, node := range []string{"gpu-0", "gpu-1", "gpu-0"} {
		if _, err := w.peaks.Reconcile(t.Context(), request("", node)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(profile), profile); err != nil {
		t.Fatal(err)
	}
	if got, want := summary(&profile.Status), []string{"default llama.cpp [3Gi] 1 2Gi"}; !slices.Equal(got, want) {
		t.Errorf("peaks %q, want %q", got, want)
	}
}

// The attack is that a pod which names a model that others use really holds 76Gi: pods of another namespace were booked
// 77.5Gi instead of 444Mi, for ever.
func TestATenantDoesNotChangeWhatAnotherNamespaceIsBooked(t *testing.T) {
	w := newWorld(t)
	profile := &berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source)}, Spec: berthv1alpha1.ModelProfileSpec{Source: source},
	}
	if err := w.client.Create(t.Context(), profile); err != nil {
		t.Fatal(err)
	}
	w.profile() // looks the model up
	run := func(namespace string, nth int, held string) {
		t.Helper()
		name := fmt.Sprintf("%s-%d", namespace, nth)
		pod := modelPod(name, func(p *corev1.Pod) {
			p.Namespace, p.Spec.NodeName = namespace, name
			p.CreationTimestamp = metav1.NewTime(testTime.Add(time.Duration(nth) * time.Minute))
			p.Annotations[berthv1alpha1.AnnotationAllocation] = `{"version":1,"devices":[{"uuid":"GPU-a","memory":"1073741824"}]}`
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testTime)}}
		})
		object := objectOf(t, &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: berthv1alpha1.GPUNodeStatus{
			Devices: []berthv1alpha1.GPUDevice{{
				UUID: "GPU-a", Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse("80Gi")},
				Processes: []berthv1alpha1.GPUProcess{{PodUID: pod.UID, Memory: resource.MustParse(held)}},
			}},
		}})
		for _, o := range []client.Object{pod, object} {
			if err := w.client.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.peaks.Reconcile(t.Context(), request("", name)); err != nil {
			t.Fatal(err)
		}
	}
	booked := func(namespace string) string {
		t.Helper()
		pod := modelPod("next", func(p *corev1.Pod) { p.Namespace = namespace })
		parsed, err := berthv1alpha1.ParsePodRequest(pod)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(profile), profile); err != nil {
			t.Fatal(err)
		}
		r, unresolved, err := gpustate.NewRequest(pod, parsed, profile, gpustate.Sizing{})
		if err != nil || unresolved != nil {
			t.Fatal(err, unresolved)
		}
		return r.Options()[0].Shares[0].String()
	}
	estimate := booked("team")
	run("mallory", 0, "76Gi")
	if got := booked("team"); got != estimate {
		t.Errorf("another namespace is booked %s after the attack, and %s before", got, estimate)
	}
	if got := booked("mallory"); got == estimate {
		t.Errorf("its own is booked %s as before, so nothing was measured", got)
	}
	for nth := range maxRuns {
		run("mallory", nth+1, "64Mi")
	}
	if got := booked("mallory"); got != estimate {
		t.Errorf("its own is booked %s after %d runs that held little, want %s", got, maxRuns, estimate)
	}
}

func TestUnreadableReportHasNoPeaks(t *testing.T) {
	object := &gpunode.Object{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Raw: []byte(`{"observedTime":"2026-01-01t00:00:00z"}`)}
	w := newWorld(t, object)
	if _, err := w.peaks.Reconcile(t.Context(), request("", "n1")); err != nil {
		t.Error(err)
	}
}
