// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// compared returns how often a ratio was taken down for llama.cpp, and the sum of the ratios.
func compared(t *testing.T) (count uint64, sum float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(estimateRatio)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == "llama.cpp" {
				return m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
			}
		}
	}
	return 0, 0
}

// peak reconciles n1's report for peaks, and returns when it is looked at again.
func (w *world) peak() time.Duration {
	w.t.Helper()
	result, err := w.peaks.Reconcile(w.t.Context(), request("", "n1"))
	if err != nil {
		w.t.Fatal(err)
	}
	return result.RequeueAfter
}

func estimatedPod(change ...func(*corev1.Pod)) *corev1.Pod {
	return modelPod("p", append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Spec.NodeName = "n1"
		p.Annotations[berthv1alpha1.AnnotationAllocation] = `{"version":1,"correction":"2147483648","devices":[{"uuid":"GPU-a","memory":"12884901888"}]}`
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testTime)}}
	}}, change...)...)
}

func profileOfSource() *berthv1alpha1.ModelProfile {
	return &berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source)}, Spec: berthv1alpha1.ModelProfileSpec{Source: source},
	}
}

// TestEstimateIsComparedOnceWithThePeak: 12Gi are booked, 2Gi of it for what earlier pods held; the pod begins with 1Gi, and
// holds 8Gi at most: 10Gi / 8Gi.
func TestEstimateIsComparedOnceWithThePeak(t *testing.T) {
	count, sum := compared(t)
	w := newWorld(t, estimatedPod(), profileOfSource(), held(t, "n1", []string{"uid-p 1Gi"}))
	if again := w.peak(); again != settledAfter {
		t.Errorf("looked at again after %s", again)
	}
	w.advance(5 * time.Minute)
	w.report(held(t, "n1", []string{"uid-p 8Gi"}))
	w.peak()
	w.report(held(t, "n1", []string{"uid-p 6Gi"}))
	if again := w.peak(); again != 5*time.Minute {
		t.Errorf("looked at again after %s", again)
	}
	if n, _ := compared(t); n != count {
		t.Error("compared before the peak is known")
	}
	w.advance(5 * time.Minute)
	for range 3 {
		if again := w.peak(); again != 0 {
			t.Errorf("looked at again after %s", again)
		}
	}
	if n, s := compared(t); n != count+1 || s-sum != 1.25 {
		t.Errorf("compared %d times, %v in sum, want once, 1.25", n-count, s-sum)
	}
	if len(w.peaks.ratios) != 0 {
		t.Errorf("remembered: %v", w.peaks.ratios)
	}
}

func TestWhatIsNotCompared(t *testing.T) {
	for name, change := range map[string]func(w *world, p *corev1.Pod){
		"a pod that says its memory": func(_ *world, p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationGPUMemory] = "10Gi" },
		"a pod that is gone before":  func(w *world, _ *corev1.Pod) { w.report(held(w.t, "n1", nil)) },
		"a pod that is not Ready":    func(_ *world, p *corev1.Pod) { p.Status.Conditions = nil },
		"a pod of a node that is gone": func(w *world, _ *corev1.Pod) {
			w.delete(held(w.t, "n1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			count, _ := compared(t)
			pod := estimatedPod()
			w := newWorld(t, pod, profileOfSource(), held(t, "n1", []string{"uid-p 8Gi"}))
			w.peak()
			if len(w.peaks.ratios) != 1 {
				t.Fatal("it is not waited for")
			}
			change(w, pod)
			status := pod.Status
			if err := w.client.Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			pod.Status = status
			if err := w.client.Status().Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			w.advance(settledAfter)
			if again := w.peak(); again != 0 {
				t.Errorf("looked at again after %s", again)
			}
			if n, _ := compared(t); n != count || len(w.peaks.ratios) != 0 {
				t.Errorf("compared %d times, remembered %v", n-count, w.peaks.ratios)
			}
		})
	}
}
