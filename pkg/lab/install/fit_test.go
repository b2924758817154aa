// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestFit(t *testing.T) {
	const group = "admissionregistration.k8s.io"
	validating := metav1.APIResource{Name: "validatingadmissionpolicies", Kind: "ValidatingAdmissionPolicy"}
	mutating := metav1.APIResource{Name: "mutatingadmissionpolicies", Kind: "MutatingAdmissionPolicy"}
	tests := []struct {
		name   string
		served map[string][]metav1.APIResource
		want   []string
		left   []string
	}{
		{
			"the apiserver serves all in the version of the manifests",
			map[string][]metav1.APIResource{"v1": {validating, mutating}, "v1beta1": {mutating}},
			[]string{"v1 request", "v1 handoff"}, nil,
		},
		{
			"the apiserver serves mutating policies in an older version",
			map[string][]metav1.APIResource{"v1": {validating}, "v1beta1": {mutating}},
			[]string{"v1 request", "v1beta1 handoff"}, nil,
		},
		{
			"the apiserver serves no mutating policies",
			map[string][]metav1.APIResource{"v1": {validating}},
			[]string{"v1 request"}, []string{"MutatingAdmissionPolicy handoff"},
		},
		{
			"what Berth does not work without is tried, so that the error names it",
			map[string][]metav1.APIResource{"v1": {mutating}},
			[]string{"v1 request", "v1 handoff"}, nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := &fake.FakeDiscovery{Fake: &clienttesting.Fake{}}
			for _, version := range []string{"v1", "v1beta1"} {
				if resources, ok := tt.served[version]; ok {
					client.Resources = append(client.Resources, &metav1.APIResourceList{GroupVersion: group + "/" + version, APIResources: resources})
				}
			}
			object := func(kind, name string) *unstructured.Unstructured {
				return &unstructured.Unstructured{Object: map[string]any{
					"apiVersion": group + "/v1", "kind": kind, "metadata": map[string]any{"name": name},
				}}
			}
			objects := []*unstructured.Unstructured{object("ValidatingAdmissionPolicy", "request"), object("MutatingAdmissionPolicy", "handoff")}
			fitting, left, err := Fit(client, objects)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range fitting {
				got = append(got, o.GroupVersionKind().Version+" "+o.GetName())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.left, left); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
			if version := objects[1].GroupVersionKind().Version; version != "v1" {
				t.Errorf("the caller's object was changed to %s", version)
			}
		})
	}
}
