// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
)

// TestResourceIsAdmitted: a pod that asks by the resource alone gets the annotation; where the cluster has the policy that
// writes the resource, a pod with the annotation gets that. A test of the manifests compares them with an apiserver.
func TestResourceIsAdmitted(t *testing.T) {
	shipped, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Objects("components/gpu-memory-resource")
	if err != nil {
		t.Fatal(err)
	}
	var policies []runtime.Object
	for _, p := range shipped {
		policies = append(policies, p)
	}
	for _, o := range objects {
		if o.GetKind() == "MutatingAdmissionPolicy" {
			policy := &admissionv1.MutatingAdmissionPolicy{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, policy); err != nil {
				t.Fatal(err)
			}
			policies = append(policies, policy)
		}
	}
	byAnnotation := bt.MakePod("p").Annotation("gpu-memory", "1=34Gi,2=30Gi").NoReference().Obj()
	byResource := bt.MakePod("p").Limit(berthv1alpha1.ResourceGPUMemory, "30Gi").NoReference().Obj()
	byResource.Annotations = nil
	for _, tt := range []struct {
		name       string
		objects    []runtime.Object
		pod        *corev1.Pod
		annotation string
		resource   string
	}{
		{"as it is installed, by the annotation", nil, byAnnotation, "1=34Gi,2=30Gi", "0"},
		{"as it is installed, by the resource", nil, byResource, "30Gi", "30Gi"},
		{"with the policy, by the annotation", policies, byAnnotation, "1=34Gi,2=30Gi", "30Gi"},
		{"with the policy, by the resource", policies, byResource, "30Gi", "30Gi"},
	} {
		a, err := New(tt.objects)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Admit(t.Context(), tt.pod)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		c := &got.Spec.Containers[0]
		limit, request, want := c.Resources.Limits[berthv1alpha1.ResourceGPUMemory], c.Resources.Requests[berthv1alpha1.ResourceGPUMemory], resource.MustParse(tt.resource)
		if got.Annotations[berthv1alpha1.AnnotationGPUMemory] != tt.annotation || limit.Cmp(want) != 0 || request.Cmp(want) != 0 {
			t.Errorf("%s: annotations %v, limit %s, request %s", tt.name, got.Annotations, &limit, &request)
		}
		if !berthv1alpha1.HasReference(c) {
			t.Errorf("%s: the container gets no GPU", tt.name)
		}
	}
}
