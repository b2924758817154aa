// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/podcases"
	"github.com/berth-dev/berth/internal/redact"
)

// TestNoProfileHasASecretInItsSource: profiles are cluster-scoped, and many may read them.
func TestNoProfileHasASecretInItsSource(t *testing.T) {
	profiles := dynamic.NewForConfigOrDie(needCluster(t).controlPlane.Config()).Resource(berthv1alpha1.GroupVersion.WithResource("modelprofiles"))
	tried := map[bool]int{}
	for _, tc := range podcases.All() {
		source, ok := tc.Pod.Annotations[berthv1alpha1.AnnotationModel]
		secret := redact.HasSecret(source)
		if !ok || !secret && tc.Refused != "" || strings.HasPrefix(source, berthv1alpha1.ProfileScheme) {
			continue
		}
		tried[secret]++
		_, err := profiles.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": berthv1alpha1.GroupVersion.String(), "kind": "ModelProfile", "metadata": map[string]any{"name": "p"},
			"spec": map[string]any{"source": source},
		}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if (err != nil) != secret {
			t.Errorf("a profile of %s: %v", source, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "neither a ?query") || strings.Contains(err.Error(), "secret")) {
			t.Errorf("a profile of %s was refused with %v", source, err)
		}
	}
	if tried[true] < 5 || tried[false] < 5 {
		t.Errorf("%v sources were tried", tried)
	}
}
