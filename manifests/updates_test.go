// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// TestWhatElseHappensToPodsPasses makes the writes of kubelets and controllers, which touch no request: a policy
// that failed on one of them would keep pods from ending.
func TestWhatElseHappensToPodsPasses(t *testing.T) {
	c := needCluster(t)
	admin := c.as(adminUser, nil).CoreV1().Pods(metav1.NamespaceDefault)
	nodes := c.admin.CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: quantity("4"), corev1.ResourceMemory: quantity("8Gi")}
	node.Status.Capacity = node.Status.Allocatable
	if _, err := nodes.Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Delete(context.WithoutCancel(t.Context()), "node", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	plain := func(pod *corev1.Pod) { pod.Annotations = nil }
	other := func(pod *corev1.Pod) { pod.Annotations, pod.Spec.SchedulerName = nil, corev1.DefaultSchedulerName }
	labelled := func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "x"} }

	for name, change := range map[string]func(*corev1.Pod){
		"with a request": func(*corev1.Pod) {}, "with a request and labels": labelled, "without a request": plain,
		"of another scheduler": other,
	} {
		for _, bound := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				pod := requestingPod("lives")
				change(pod)
				pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity("100m")}
				pod = create(t, pod)
				if bound {
					if err := bind(t.Context(), c.as(schedulerUser, nil), pod.Name, false, func(b *corev1.Binding) {
						b.Annotations = map[string]string{berthv1alpha1.AnnotationGPUUUIDs: "GPU-a"}
						b.Labels = map[string]string{berthv1alpha1.LabelAllocated: "true"}
					}); err != nil {
						t.Fatal(err)
					}
				}
				for _, write := range []struct{ name, subresource, patch string }{
					{"a finalizer comes", "", `{"metadata":{"finalizers":["example.test/a"]}}`},
					{"a finalizer goes", "", `{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.test/a"]}}`},
					{"an owner adopts", "", `{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"x","uid":"u"}]}}`},
					{"a label comes", "", `{"metadata":{"labels":{"pod-template-hash":"1"}}}`},
					{"an annotation comes", "", `{"metadata":{"annotations":{"example.test/a":"b"}}}`},
					{"an annotation goes", "", `{"metadata":{"annotations":{"example.test/a":null}}}`},
					{"an image changes", "", `{"spec":{"containers":[{"name":"server","image":"example.test/server:2"}]}}`},
					{"the scheduler's or kubelet's condition", "status", `{"status":{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable"}]}}`},
					{"a nomination", "status", `{"status":{"nominatedNodeName":"node"}}`},
					{"the phase", "status", `{"status":{"phase":"Running"}}`},
					{"a resize", "resize", `{"spec":{"containers":[{"name":"server","resources":{"requests":{"cpu":"50m"}}}]}}`},
				} {
					if write.subresource == "resize" && !bound || write.name == "a nomination" && bound {
						continue // the apiserver refuses it itself
					}
					subresources := []string{write.subresource}
					if write.subresource == "" {
						subresources = nil
					}
					_, err := admin.Patch(t.Context(), pod.Name, types.StrategicMergePatchType, []byte(write.patch), metav1.PatchOptions{}, subresources...)
					if err != nil {
						t.Errorf("%s: %v", write.name, err)
					}
				}
				eviction := &policyv1.Eviction{
					ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
					DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}},
				}
				if err := admin.EvictV1(t.Context(), eviction); err != nil {
					t.Errorf("an eviction: %v", err)
				}
			})
		}
	}
}
