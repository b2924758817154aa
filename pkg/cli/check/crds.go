// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// crds compares the CustomResourceDefinitions with those that are shipped.
func (c *judge) crds() []Result {
	var out []Result
	var good, unread []string
	why := ""
	for _, shipped := range c.shipped {
		if shipped.GetKind() != "CustomResourceDefinition" {
			continue
		}
		found := c.found(KeyOf(shipped.Unstructured))
		if found.Unread != "" {
			unread, why = append(unread, shipped.GetName()), found.Unread
		} else if bad := c.crd(&shipped, found.Object); len(bad) > 0 {
			out = append(out, bad...)
		} else {
			good = append(good, strings.TrimSuffix(shipped.GetName(), ".berth.dev"))
		}
	}
	if len(unread) > 0 {
		out = append(out, unknown(idCRDInstalled, "%s could not be read: %s", count(len(unread), "CustomResourceDefinition"), why).of(unread...))
	}
	if len(good) > 0 {
		out = append([]Result{ok(idCRDInstalled, "%s are installed, established, served and stored as v1alpha1, with all fields", listed(good))}, out...)
	}
	return out
}

// crd judges one; object is nil if it is not there.
func (c *judge) crd(shipped *shippedObject, object *unstructured.Unstructured) []Result {
	name := shipped.GetName()
	if object == nil {
		return []Result{failed(idCRDInstalled, "%s is not installed", name).of(name).run(c.applyAgain("crd")).see(pageInstall)}
	}
	var out []Result
	for _, kind := range []string{"NamesAccepted", "Established"} {
		if status, why := condition(object, kind); status != "True" {
			out = append(out, failed(idCRDInstalled, "%s is not %s: %s", name, kind, why).of(name).run("kubectl describe crd "+name))
		}
	}
	version := versionOf(object, "v1alpha1")
	if version == nil || version["served"] != true || version["storage"] != true {
		return append(out, failed(idCRDVersion, "%s does not serve and store v1alpha1, which all parts of Berth read", name).of(name).run(c.applyAgain("crd")))
	}
	stored, _, _ := unstructured.NestedStringSlice(object.Object, "status", "storedVersions")
	for _, v := range stored {
		if v != "v1alpha1" {
			out = append(out, warning(idCRDVersion, "objects of %s may be stored as %s, which this version does not know", name, v).of(name).see(pageUpgrade))
		}
	}
	if lost := missingFields(schemaOf(versionOf(shipped.Unstructured, "v1alpha1")), schemaOf(version), ""); len(lost) > 0 {
		r := failed(idCRDFields, "%s lacks %s that this version writes, which the API server drops without a word: %s", name, count(len(lost), "field"), shortened(lost))
		if c.otherVersion() {
			r.Status = Warning
		}
		out = append(out, r.of(name).run(c.applyAgain("crd")).see(pageUpgrade))
	}
	return out
}

// condition returns the status of a condition of an object, and what it says.
func condition(o *unstructured.Unstructured, kind string) (status, why string) {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, item := range conditions {
		if c, ok := item.(map[string]any); ok && c["type"] == kind {
			return fmt.Sprint(c["status"]), fmt.Sprint(c["message"])
		}
	}
	return "", "nothing is said of it yet"
}

func versionOf(crd *unstructured.Unstructured, name string) map[string]any {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, item := range versions {
		if v, ok := item.(map[string]any); ok && v["name"] == name {
			return v
		}
	}
	return nil
}

func schemaOf(version map[string]any) map[string]any {
	schema, _, _ := unstructured.NestedMap(version, "schema", "openAPIV3Schema")
	return schema
}

// missingFields returns the fields of a schema that another one does not let through.
func missingFields(want, have map[string]any, path string) (lost []string) {
	if have["x-kubernetes-preserve-unknown-fields"] == true {
		return nil
	}
	if items, ok := want["items"].(map[string]any); ok {
		other, _ := have["items"].(map[string]any)
		lost = append(lost, missingFields(items, other, path+"[]")...)
	}
	properties, _ := want["properties"].(map[string]any)
	others, _ := have["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		below := strings.TrimPrefix(path+"."+name, ".")
		other, ok := others[name].(map[string]any)
		if !ok {
			lost = append(lost, below)
			continue
		}
		if property, ok := properties[name].(map[string]any); ok {
			lost = append(lost, missingFields(property, other, below)...)
		}
	}
	return lost
}
