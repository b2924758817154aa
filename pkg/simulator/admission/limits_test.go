// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
)

// TestLimitsAreHandedOver: the containers that get the GPUs, and no others, are told a memory limit by reference where the policy
// says that the toolkit enforces it. The expressions are run as an apiserver does.
func TestLimitsAreHandedOver(t *testing.T) {
	for enforcement, want := range map[string][]string{
		"None": nil, "NVIDIAGPUSharing": nil, "NVIDIAToolkit": {berthv1alpha1.EnvGPUMemoryLimit, berthv1alpha1.EnvGPUMemoryRequest},
	} {
		t.Run(enforcement, func(t *testing.T) {
			policies, err := Shipped()
			if err != nil {
				t.Fatal(err)
			}
			var objects []runtime.Object
			for _, p := range policies {
				for i := range p.Spec.Variables {
					if v := &p.Spec.Variables[i]; v.Name == "enforcement" {
						if p.Name != "berth-handoff" || i != 1 { // the place that docs/enforcement.md patches
							t.Errorf("it is variable %d of %s", i, p.Name)
						}
						v.Expression = "'" + enforcement + "'"
					}
				}
				objects = append(objects, p)
			}
			a, err := New(objects)
			if err != nil {
				t.Fatal(err)
			}
			pod := bt.MakePod("p").Memory("30Gi").NoReference().Obj()
			pod.Annotations[berthv1alpha1.AnnotationContainer] = "server,convert"
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "side"})
			pod.Spec.InitContainers = []corev1.Container{{Name: "convert"}}
			got, err := a.Admit(t.Context(), pod)
			if err != nil {
				t.Fatal(err)
			}
			for container, want := range map[*corev1.Container][]string{
				&got.Spec.Containers[0]: want, &got.Spec.InitContainers[0]: want, &got.Spec.Containers[1]: nil,
			} {
				var limits []string
				for _, e := range container.Env {
					if e.ValueFrom != nil && e.ValueFrom.FieldRef.FieldPath == berthv1alpha1.GPUMemoryLimitFieldPath {
						limits = append(limits, e.Name)
					}
				}
				if diff := cmp.Diff(want, limits); diff != "" {
					t.Errorf("%s refers to the limit by (-want +got):\n%s", container.Name, diff)
				}
				if told := berthv1alpha1.RefersToLimit(container); told != (want != nil) {
					t.Errorf("the scheduler takes %s for one with a limit: %v", container.Name, told)
				}
			}
			again, err := a.Admit(t.Context(), got) // the policy is run again when something else changes the pod
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("run again it changes (-first +second):\n%s", diff)
			}
		})
	}
}
