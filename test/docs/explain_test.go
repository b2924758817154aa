// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/manifests"
)

// TestEveryFieldIsExplained holds what kubectl explain prints to the API conventions: a sentence that begins with the name
// of the field as it is written in YAML, and a unit where it is a quantity.
func TestEveryFieldIsExplained(t *testing.T) {
	objects, err := manifests.Objects("crd")
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &crd); err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			explained(t, crd.Spec.Names.Singular, v.Schema.OpenAPIV3Schema)
		}
	}
}

func explained(t *testing.T, path string, schema *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	for name := range schema.Properties {
		p := schema.Properties[name]
		at := path + "." + name
		switch name {
		case "apiVersion", "kind", "metadata":
			// The comments of the first two are upstream's, and the third has none. A layer's kind is ours.
			if !strings.Contains(path, ".") {
				continue
			}
		case "conditions": // upstream's
			continue
		}
		text := p.Description
		switch {
		case !strings.HasPrefix(text, name+" "):
			t.Errorf("%s: %q does not begin with the field's name", at, text)
		case !strings.HasSuffix(text, "."):
			t.Errorf("%s: %q is no sentence", at, text)
		case p.XIntOrString && !strings.Contains(text, "bytes"):
			t.Errorf("%s: %q has no unit", at, text)
		}
		explained(t, at, &p)
		if p.Items != nil && p.Items.Schema != nil {
			explained(t, at, p.Items.Schema)
		}
	}
}
