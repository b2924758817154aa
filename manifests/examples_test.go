// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
)

// TestExamplesAreAdmitted makes a pod of each example, as its controller would.
func TestExamplesAreAdmitted(t *testing.T) {
	c := needCluster(t)
	objects, err := manifests.Objects("examples")
	if err != nil {
		t.Fatal(err)
	}
	admitted := 0
	for _, o := range objects {
		if o.GetKind() == "Service" {
			continue
		}
		t.Run(o.GetName(), func(t *testing.T) {
			annotations, _, err := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "annotations")
			if err != nil {
				t.Fatal(err)
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", Annotations: annotations}, Spec: *podSpec(t, o)}
			pod, err = c.admin.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), pod, dryRun)
			if err != nil {
				t.Fatal(err)
			}
			request, err := berthv1alpha1.ParsePodRequest(pod)
			if err != nil || request == nil {
				t.Fatalf("request %v, %v", request, err)
			}
			checkHandOff(t, pod, true)
			// A variable is expanded only in the container that has it.
			gpuContainers, err := berthv1alpha1.GPUContainers(pod)
			if err != nil {
				t.Fatal(err)
			}
			for _, container := range pod.Spec.Containers {
				if !slices.Contains(gpuContainers, container.Name) && strings.Contains(strings.Join(container.Args, " "), "$(BERTH_") {
					t.Errorf("container %s refers to variables that it does not get", container.Name)
				}
			}
			admitted++
		})
	}
	if admitted < 5 {
		t.Errorf("%d examples were admitted, want all", admitted)
	}
}
