// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package install applies what Berth's manifests hold to a cluster, other than the workloads: the lab runs those as
// processes of its own.
package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
)

// fieldManager owns the fields that are applied.
const fieldManager = "berth-lab"

// order is the kinds that are applied, in that order: what others refer to comes first.
var order = []string{
	"Namespace",
	"CustomResourceDefinition",
	"ResourceQuota",
	"ServiceAccount",
	"ClusterRole",
	"ClusterRoleBinding",
	"Role",
	"RoleBinding",
	"ConfigMap",
	"RuntimeClass",
	"PriorityClass",
	"ValidatingAdmissionPolicy",
	"ValidatingAdmissionPolicyBinding",
	"MutatingAdmissionPolicy",
	"MutatingAdmissionPolicyBinding",
}

// skipped is the kinds of the manifests that mean nothing on a lab.
var skipped = []string{
	"Deployment", "DaemonSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PodMonitor",
}

// Select returns the objects that a lab needs, in the order in which they can be applied. A kind that it does not
// know is an error, so that nothing of the manifests is left out unseen.
func Select(objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var selected []*unstructured.Unstructured
	for _, object := range objects {
		switch kind := object.GetKind(); {
		case slices.Contains(order, kind):
			selected = append(selected, object)
		case !slices.Contains(skipped, kind):
			return nil, fmt.Errorf("%s %q: not known whether the lab needs it", kind, object.GetName())
		}
	}
	slices.SortStableFunc(selected, func(a, b *unstructured.Unstructured) int {
		return slices.Index(order, a.GetKind()) - slices.Index(order, b.GetKind())
	})
	return selected, nil
}

// Apply applies the objects in their order by server-side apply, and waits until the custom resources are served.
func Apply(ctx context.Context, client dynamic.Interface, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		// All kinds in order have a regular plural, so discovery is not needed.
		resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
		_, err := client.Resource(resource).Namespace(object.GetNamespace()).Apply(ctx, object.GetName(), object,
			metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err != nil {
			return fmt.Errorf("apply %s %q: %w", object.GetKind(), object.GetName(), err)
		}
	}
	for _, object := range objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if err := waitServed(ctx, client, object); err != nil {
			return fmt.Errorf("wait for %s to be served: %w", object.GetName(), err)
		}
	}
	return nil
}

// waitServed waits until the resource that crd defines can be listed.
func waitServed(ctx context.Context, client dynamic.Interface, crd *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	plural := strings.TrimSuffix(crd.GetName(), "."+group)
	for _, v := range versions {
		version, _ := v.(map[string]any)
		name, _ := version["name"].(string)
		resource := client.Resource(schema.GroupVersionResource{Group: group, Version: name, Resource: plural})
		err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			_, err := resource.List(ctx, metav1.ListOptions{Limit: 1})
			if apierrors.IsNotFound(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
