// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// optional is the kinds that not every apiserver serves, and that Berth works without.
var optional = []string{"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}

// Fit returns the objects as an apiserver takes them: of an optional kind that it serves in another version, the
// objects of that version, which have the same fields; and the names of those that it does not serve at all.
func Fit(client discovery.ServerResourcesInterface, objects []*unstructured.Unstructured) (fitting []*unstructured.Unstructured, left []string, err error) {
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		return nil, nil, fmt.Errorf("ask what the apiserver serves: %w", err)
	}
	served := map[schema.GroupKind][]string{} // versions, the preferred one first
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, nil, err
		}
		for _, r := range list.APIResources {
			kind := schema.GroupKind{Group: version.Group, Kind: r.Kind}
			served[kind] = append(served[kind], version.Version)
		}
	}
	for _, object := range objects {
		gvk := object.GroupVersionKind()
		versions := served[gvk.GroupKind()]
		switch {
		case !slices.Contains(optional, gvk.Kind) || slices.Contains(versions, gvk.Version):
			fitting = append(fitting, object)
		case len(versions) == 0:
			left = append(left, gvk.Kind+" "+object.GetName())
		default:
			object = object.DeepCopy()
			object.SetGroupVersionKind(gvk.GroupKind().WithVersion(versions[0]))
			fitting = append(fitting, object)
		}
	}
	return fitting, left, nil
}
