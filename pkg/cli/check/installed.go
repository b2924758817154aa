// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-dev/berth/manifests"
)

// shippedObject is an object as this program's version ships it.
type shippedObject struct {
	*unstructured.Unstructured
	// part is the folder of manifests that it is in.
	part string
}

// optional are the policies that an admin installs or not, each with a binding of its name.
var optional = []string{"berth-limits", "berth-runtime-classes"}

// judged are the kinds that are compared with what is shipped.
var judged = []string{
	"CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicy",
	"MutatingAdmissionPolicyBinding", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
}

// shippedObjects returns the objects that every installation has, and those of resourcePart. They are part of the program, so that
// they can be read.
func shippedObjects() (out []shippedObject) {
	for _, part := range []string{"crd", "policies", "rbac", resourcePart} {
		objects, err := manifests.Objects(part)
		if err != nil {
			panic(fmt.Sprintf("what is shipped cannot be read: %v", err))
		}
		for _, o := range objects {
			if slices.Contains(judged, o.GetKind()) {
				out = append(out, shippedObject{o, part})
			}
		}
	}
	return out
}

// Needed returns what to look for in a cluster: what is shipped, and what may be installed beside it. Mutating policies are
// of the version that the cluster serves, and left out if that is empty.
func Needed(mutating string) (out []*unstructured.Unstructured) {
	for _, o := range shippedObjects() {
		if strings.HasPrefix(o.GetKind(), "Mutating") {
			if mutating == "" {
				continue
			}
			o.SetAPIVersion("admissionregistration.k8s.io/" + mutating)
		}
		out = append(out, o.Unstructured)
	}
	for _, name := range optional {
		for _, kind := range []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
			o := &unstructured.Unstructured{}
			o.SetAPIVersion("admissionregistration.k8s.io/v1")
			o.SetKind(kind)
			o.SetName(name)
			out = append(out, o)
		}
	}
	return out
}

// KeyOf names an object: "ClusterRole berth-view", "Role berth-system/berth-view".
func KeyOf(o *unstructured.Unstructured) string {
	return keyOf(o.GetKind(), o.GetNamespace(), o.GetName())
}

func keyOf(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return kind + " " + name
}

// PathOf returns the path of an object at the API server. All kinds here have a regular plural.
func PathOf(o *unstructured.Unstructured) []string {
	resource, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	path := []string{"apis", resource.Group, resource.Version}
	if o.GetNamespace() != "" {
		path = append(path, "namespaces", o.GetNamespace())
	}
	return append(path, resource.Resource, o.GetName())
}

// maxListed is how many of a list are told.
const maxListed = 5

func shortened(list []string) string {
	if len(list) <= maxListed {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:maxListed], ", ") + fmt.Sprintf(" and %d more", len(list)-maxListed)
}
