// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/manifests"
)

// writeCRDs writes each field of each CustomResourceDefinition that is shipped.
func writeCRDs(out *bytes.Buffer) error {
	objects, err := manifests.Objects("crd")
	if err != nil {
		return err
	}
	for _, object := range objects {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd); err != nil {
			return err
		}
		for _, version := range crd.Spec.Versions {
			schema := version.Schema.OpenAPIV3Schema
			fmt.Fprintf(out, "\n## %s\n\n`%s/%s`, %s: `kubectl get %s`\n\n%s\n\n| field | type | |\n|---|---|---|\n", crd.Spec.Names.Kind,
				crd.Spec.Group, version.Name, strings.ToLower(string(crd.Spec.Scope)), crd.Spec.Names.Plural, cell(schema.Description))
			for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
				if name != "apiVersion" && name != "kind" && name != "metadata" {
					writeField(out, name, schema.Properties[name], slices.Contains(schema.Required, name))
				}
			}
		}
	}
	return nil
}

// writeField writes a row for a field, and one for each field in it.
func writeField(out *bytes.Buffer, path string, field apiextensionsv1.JSONSchemaProps, required bool) {
	kind, within, name := field.Type, field, path[strings.LastIndex(path, ".")+1:]
	switch {
	case field.XIntOrString:
		kind = "quantity"
	case field.Items != nil && field.Items.Schema != nil:
		within = *field.Items.Schema
		kind, path = "list of "+within.Type, path+"[]"
	case field.AdditionalProperties != nil && field.AdditionalProperties.Schema != nil:
		within = *field.AdditionalProperties.Schema
		kind, path = "map of "+within.Type, path+".*"
	case field.Format != "":
		kind = field.Format
	}
	about := []string{sentence(field.Description, name)}
	if len(field.Enum) > 0 {
		values := make([]string, len(field.Enum))
		for i := range field.Enum {
			values[i] = "`" + strings.Trim(string(field.Enum[i].Raw), `"`) + "`"
		}
		about = append(about, "One of "+strings.Join(values, ", ")+".")
	}
	if field.Default != nil {
		about = append(about, "Default `"+strings.Trim(string(field.Default.Raw), `"`)+"`.")
	}
	if required {
		about = append(about, "Required.")
	}
	fmt.Fprintf(out, "| `%s` | %s | %s |\n", path, kind, cell(strings.Join(about, " ")))
	for _, name := range slices.Sorted(maps.Keys(within.Properties)) {
		writeField(out, path+"."+name, within.Properties[name], slices.Contains(within.Required, name))
	}
}
