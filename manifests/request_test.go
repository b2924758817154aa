// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const neverChanges = "what a pod asks for does not change after it was created"

// TestARequestNeverChanges tries to add, remove and alter a request, in every state of a pod, as everybody.
func TestARequestNeverChanges(t *testing.T) {
	c := needCluster(t)
	gate := func(pod *corev1.Pod) {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.test/wait"}}
	}
	// With a reference by hand, a request is all that it lacks, so that no other policy refuses one.
	plain := func(pod *corev1.Pod) {
		pod.Annotations = nil
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: berthv1alpha1.VisibleDevicesFieldPath},
		}}}
	}
	bound := func(pod *corev1.Pod) {
		var change func(*corev1.Binding)
		if pod.Annotations != nil {
			change = func(b *corev1.Binding) {
				b.Labels = map[string]string{berthv1alpha1.LabelAllocated: "true"}
				b.Annotations = map[string]string{berthv1alpha1.AnnotationAllocation: "{}"}
			}
		}
		if err := bind(t.Context(), c.as(schedulerUser, nil), pod.Name, false, change); err != nil {
			t.Fatal(err)
		}
	}
	for name, made := range map[string]struct{ before, after func(*corev1.Pod) }{
		"that waits": {}, "that is gated": {before: gate}, "that is bound": {after: bound},
		"without a request": {before: plain}, "without a request, gated": {before: func(pod *corev1.Pod) { plain(pod); gate(pod) }},
		"without a request, bound": {before: plain, after: bound},
	} {
		t.Run("of a pod "+name, func(t *testing.T) {
			pod := requestingPod("asks")
			if made.before != nil {
				made.before(pod)
			}
			asks := pod.Annotations != nil
			pod = create(t, pod)
			if made.after != nil {
				made.after(pod)
			}
			for what, annotations := range map[string]map[string]any{
				"alter":           {berthv1alpha1.AnnotationGPUMemory: "50Gi"},
				"remove":          {berthv1alpha1.AnnotationGPUMemory: nil},
				"add to":          {berthv1alpha1.AnnotationIdleAfter: "10m"},
				"turn round":      {berthv1alpha1.AnnotationGPUMemory: nil, berthv1alpha1.AnnotationModel: "hf://a/b"},
				"put a model in":  {berthv1alpha1.AnnotationModel: "hf://a/b"},
				"put a newer key": {"berth.dev/of-a-newer-version": "x"},
			} {
				if what == "remove" && !asks {
					continue
				}
				for _, subresource := range []string{"", "status"} {
					for _, user := range []string{adminUser, schedulerUser} {
						err := annotate(t.Context(), c.as(user, nil), pod.Name, subresource, annotations)
						check(t, user+": "+what+" the request through pods/"+subresource, err, false)
						if what == "alter" && err != nil && !strings.Contains(err.Error(), neverChanges) {
							t.Errorf("refused with %q, which does not say %q", err, neverChanges)
						}
					}
				}
			}
			err := annotate(t.Context(), c.as(adminUser, nil), pod.Name, "", map[string]any{"example.test/note": "x"})
			check(t, "annotate it otherwise", err, true)
			err = annotate(t.Context(), c.as(adminUser, nil), pod.Name, "", map[string]any{berthv1alpha1.AnnotationEvictable: "true"})
			check(t, "make it evictable", err, true)
		})
	}
}

// TestAGateIsTakenAwayAsKueueDoes: a queue that lets a pod go writes labels, annotations of its own, where the pod may go,
// and takes its gate away, in one write; the patches that take the request with the gate, and put it back, are refused.
func TestAGateIsTakenAwayAsKueueDoes(t *testing.T) {
	pod := requestingPod("queued")
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "kueue.x-k8s.io/admission"}}
	pod = create(t, pod)
	patch := func(text string) error { return patchPod(t, needCluster(t).as(adminUser, nil), pod.Name, text) }

	err := patch(`{"metadata":{"annotations":{"berth.dev/gpu-memory":null}},"spec":{"schedulingGates":null}}`)
	check(t, "take the gate and the request away", err, false)
	err = patch(`{"metadata":{"labels":{"kueue.x-k8s.io/podset":"main"},"annotations":{"kueue.x-k8s.io/workload":"w"}},
		"spec":{"schedulingGates":null,"nodeSelector":{"pool":"a"}}}`)
	check(t, "take the gate away", err, true)
	err = patch(`{"metadata":{"annotations":{"berth.dev/gpu-memory":"1Gi"}}}`)
	check(t, "another request without the gate", err, false)
}

// TestResourcesOfAPodThatWaitsNeverChange: a request that is a resource of a container stays as it is without a policy,
// because the apiserver lets nobody change resources but CPU and memory.
func TestResourcesOfAPodThatWaitsNeverChange(t *testing.T) {
	c := needCluster(t)
	pod := requestingPod("resources")
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.test/wait"}}
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"example.test/gpu-memory": quantity("30")}
	pod = create(t, pod)
	for what, text := range map[string]string{
		"alter":  `{"spec":{"containers":[{"name":"server","resources":{"limits":{"example.test/gpu-memory":"40"},"requests":{"example.test/gpu-memory":"40"}}}]}}`,
		"remove": `{"spec":{"containers":[{"name":"server","resources":{"limits":null,"requests":null}}]}}`,
	} {
		for _, subresources := range [][]string{nil, {"resize"}} {
			err := patchPod(t, c.as(adminUser, nil), pod.Name, text, subresources...)
			check(t, what+" a resource by pods/"+strings.Join(subresources, ""), err, false)
		}
	}
}

func patchPod(t *testing.T, client kubernetes.Interface, pod, text string, subresources ...string) error {
	t.Helper()
	_, err := client.CoreV1().Pods(metav1.NamespaceDefault).
		Patch(t.Context(), pod, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, subresources...)
	return err
}
