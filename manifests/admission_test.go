// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/podcases"
)

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

// TestAdmissionJudgesEveryCase is the twin of the test of the parser: the policies refuse the same pods, in the same
// helpful words, and make what they accept ready for the scheduler.
func TestAdmissionJudgesEveryCase(t *testing.T) {
	pods := needCluster(t).admin.CoreV1().Pods(metav1.NamespaceDefault)
	for _, tc := range podcases.All() {
		t.Run(tc.Name, func(t *testing.T) {
			pod, err := pods.Create(t.Context(), tc.Pod, dryRun)
			if tc.Refused != "" {
				if err == nil {
					t.Fatalf("accepted, want a refusal with %q", tc.Refused)
				}
				if !strings.Contains(err.Error(), tc.Refused) || strings.Contains(err.Error(), "resulted in error") {
					t.Fatalf("refused with %q, which does not say %q", err, tc.Refused)
				}
				if strings.Contains(tc.Name, "secret") && strings.Contains(err.Error(), "secret") {
					t.Errorf("refused with %q, which says the secret", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := berthv1alpha1.ParsePodRequest(pod)
			if err != nil {
				t.Fatalf("the parser refuses what was admitted: %v", err)
			}
			if diff := cmp.Diff(tc.Want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			checkHandOff(t, pod, got != nil)
		})
	}
}

// checkHandOff checks that the containers named by a pod with a request take their GPUs from the allocation, and that every
// other container of this scheduler's pods sees none.
func checkHandOff(t *testing.T, pod *corev1.Pod, hasRequest bool) {
	t.Helper()
	if pod.Spec.SchedulerName != berthv1alpha1.SchedulerName {
		if len(pod.Labels) > 0 || pod.Spec.RuntimeClassName != nil {
			t.Errorf("a pod of another scheduler was changed: labels %v, runtime class %v", pod.Labels, *pod.Spec.RuntimeClassName)
		}
		return
	}
	var chosen []string
	if hasRequest {
		var err error
		if chosen, err = berthv1alpha1.GPUContainers(pod); err != nil {
			t.Fatal(err)
		}
		if pod.Labels[berthv1alpha1.LabelAllocated] != "false" || pod.Spec.RuntimeClassName == nil {
			t.Errorf("labels %v, runtime class %v", pod.Labels, pod.Spec.RuntimeClassName)
		}
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if berthv1alpha1.WholeGPUs(c.Resources.Limits) > 0 {
			if visibleDevices(c.Env) != "" {
				t.Errorf("container %s, which the device plugin gives a GPU, was told %v", c.Name, c.Env)
			}
			continue
		}
		refers := berthv1alpha1.HasReference(&c)
		if slices.Contains(chosen, c.Name) && !refers {
			t.Errorf("container %s has no reference: %v", c.Name, c.Env)
		}
		if !slices.Contains(chosen, c.Name) && (refers || visibleDevices(c.Env) != berthv1alpha1.VisibleDevicesVoid) {
			t.Errorf("container %s sees GPUs: %v", c.Name, c.Env)
		}
	}
}

func visibleDevices(env []corev1.EnvVar) string {
	value := ""
	for _, e := range env {
		if e.Name == berthv1alpha1.EnvVisibleDevices {
			value = e.Value
		}
	}
	return value
}

// TestLongValuesAreRefusedInWords has values that cost too much to look at.
func TestLongValuesAreRefusedInWords(t *testing.T) {
	c := needCluster(t)
	for _, key := range []string{
		"gpu-memory", "model", "runtime", "gpu-count", "context-length", "parallel", "kv-cache-type", "idle-after", "min-runtime", "container", "gpu-sharing",
		"on-device-lost", "on-overuse",
	} {
		for _, part := range []string{"1", "1,", ",", "1=1Gi,", "1m", "hf://a/", "\n"} {
			pod := requestingPod("long")
			pod.Annotations["berth.dev/"+key] = strings.Repeat(part, 200<<10/len(part)) + strings.TrimSuffix(part, ",")
			_, err := c.admin.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), pod, dryRun)
			if !denied(err) || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "resulted in error") ||
				strings.Contains(err.Error(), "failed expression") || len(err.Error()) > 2000 {
				t.Errorf("%s of many %q: not a helpful refusal: %.500v", key, part, err)
			}
		}
	}
}
