// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/podcases"
)

func TestParsePodRequestJudgesEveryCase(t *testing.T) {
	for _, tc := range podcases.All() {
		if tc.AdmissionOnly {
			continue
		}
		t.Run(tc.Name, func(t *testing.T) {
			got, err := v1alpha1.ParsePodRequest(tc.Pod)
			if tc.Refused != "" {
				if err == nil {
					t.Fatalf("accepted as %+v, want a refusal with %q", got, tc.Refused)
				}
				if !strings.Contains(err.Error(), tc.Refused) {
					t.Fatalf("refused with %q, which does not say %q", err, tc.Refused)
				}
				if strings.Contains(tc.Name, "secret") && strings.Contains(err.Error(), "secret") {
					t.Errorf("refused with %q, which says the secret", err)
				}
				if got != nil {
					t.Errorf("a refused pod has the request %+v", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.Want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParsePodRequestNamesEveryMistake(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		v1alpha1.AnnotationGPUMemory: "30", v1alpha1.AnnotationRuntime: "tgi", "berth.dev/gpu-cuont": "1",
	}}}
	_, err := v1alpha1.ParsePodRequest(pod)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"did you mean 30Gi?", "no such runtime", "berth.dev/gpu-count", "schedulerName: berth"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

func TestParsePodRequestIgnoresAllocationAnnotations(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		v1alpha1.AnnotationAllocation: "{}", v1alpha1.AnnotationGPUUUIDs: "GPU-a",
	}}}
	if r, err := v1alpha1.ParsePodRequest(pod); r != nil || err != nil {
		t.Errorf("ParsePodRequest() = %+v, %v, want no request", r, err)
	}
}

// FuzzParsePodRequest checks that no text crashes the parser, and that what it accepts is within the bounds.
func FuzzParsePodRequest(f *testing.F) {
	for _, tc := range podcases.All() {
		a := tc.Pod.Annotations
		f.Add(a[v1alpha1.AnnotationGPUMemory], a[v1alpha1.AnnotationGPUCount], a[v1alpha1.AnnotationModel],
			a[v1alpha1.AnnotationIdleAfter], a[v1alpha1.AnnotationContextLength], a[v1alpha1.AnnotationKVCacheType])
	}
	f.Fuzz(func(t *testing.T, memory, count, model, idle, context, kv string) {
		pod := &corev1.Pod{Spec: corev1.PodSpec{
			SchedulerName: v1alpha1.SchedulerName, Containers: []corev1.Container{{Name: "server"}},
		}}
		pod.Annotations = map[string]string{}
		for key, value := range map[string]string{
			v1alpha1.AnnotationGPUMemory: memory, v1alpha1.AnnotationGPUCount: count, v1alpha1.AnnotationModel: model,
			v1alpha1.AnnotationIdleAfter: idle, v1alpha1.AnnotationContextLength: context,
			v1alpha1.AnnotationKVCacheType: kv,
		} {
			if value != "" {
				pod.Annotations[key] = value
			}
		}
		r, err := v1alpha1.ParsePodRequest(pod)
		if (r == nil) != (err != nil || len(pod.Annotations) == 0) {
			t.Fatalf("request %+v with error %v", r, err)
		}
		if r == nil {
			return
		}
		if r.TotalMemory == nil && r.Model == "" {
			t.Errorf("accepted with neither memory nor model")
		}
		for n, bytes := range r.TotalMemory {
			if n < 0 || n > v1alpha1.MaxGPUCount || bytes < v1alpha1.MinGPUMemory || bytes > v1alpha1.MaxGPUMemory {
				t.Errorf("total of %d bytes for %d GPUs", bytes, n)
			}
		}
		last := 0
		for _, n := range r.GPUCounts {
			if n <= last || n > v1alpha1.MaxGPUCount {
				t.Errorf("counts %v are not ascending in 1 to %d", r.GPUCounts, v1alpha1.MaxGPUCount)
			}
			last = n
		}
		if r.IdleAfter < 0 || r.IdleAfter > v1alpha1.MaxDuration || r.ContextLength < 0 {
			t.Errorf("idle-after %v, context-length %d", r.IdleAfter, r.ContextLength)
		}
	})
}
