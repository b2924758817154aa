// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package upgrade holds this version to what earlier ones stored. "make test-upgrade" upgrades a control plane.
package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// earlier is the last commit before reports said which pods share a GPU and what the container runtime takes. Its objects
// were stored by its programs: BERTH_UPGRADE_GOLDEN=DIR make test-upgrade.
const earlier = "testdata/5486c76"

func read(t *testing.T, file string, to any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(earlier, file))
	if err == nil {
		err = yaml.UnmarshalStrict(text, to) // a field that is not known any more is an error
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func TestReportsOfTheEarlierVersionAreRead(t *testing.T) {
	var list berthv1alpha1.GPUNodeList
	read(t, "gpunodes.yaml", &list)
	devices := 0
	for i := range list.Items {
		for _, d := range list.Items[i].Status.Devices {
			devices++
			if d.Health != berthv1alpha1.DeviceHealthy || d.UUID == "" || d.Memory.Total.Value() != 81559<<20 {
				t.Errorf("%s: %+v", list.Items[i].Name, d)
			}
		}
	}
	if devices != 6 {
		t.Errorf("%d devices, want 6", devices)
	}
	checkStored(t, "gpunodes", len(list.Items))
}

func TestProfilesOfTheEarlierVersionAreReady(t *testing.T) {
	var list berthv1alpha1.ModelProfileList
	read(t, "modelprofiles.yaml", &list)
	for i := range list.Items {
		if p := &list.Items[i]; !p.IsReady() || p.Status.Model.FileSize == 0 || berthv1alpha1.ModelProfileName(p.Spec.Source) != p.Name {
			t.Errorf("%s: %+v", p.Name, p.Status)
		}
	}
	checkStored(t, "modelprofiles", len(list.Items))
}

func TestAllocationsOfTheEarlierVersionAreBooked(t *testing.T) {
	var list corev1.PodList
	read(t, "pods.yaml", &list)
	booked := map[string]string{}
	for i := range list.Items {
		pod := &list.Items[i]
		a, err := gpustate.BookingOf(pod)
		if err != nil {
			t.Errorf("%s: %v", pod.Name, err)
			continue
		}
		if a == nil {
			booked[pod.Name] = "nothing"
			continue
		}
		var uuids []string
		for _, d := range a.Devices {
			uuids = append(uuids, d.UUID)
			booked[pod.Name] += d.Memory.String() + " "
		}
		if want := pod.Annotations[berthv1alpha1.AnnotationGPUUUIDs]; strings.Join(uuids, ",") != want {
			t.Errorf("%s: booked on %v, its container has %s", pod.Name, uuids, want)
		}
	}
	if booked["two-gpus"] != "55Gi 55Gi " || booked["preemptor-1"] != "nothing" || booked["model"] == "" {
		t.Errorf("booked: %q", booked)
	}
}

// definitions returns the earlier CustomResourceDefinition of a kind, and that of now.
func definitions(t *testing.T, plural string) (before, now *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	before, now = &apiextensionsv1.CustomResourceDefinition{}, &apiextensionsv1.CustomResourceDefinition{}
	read(t, "crd-"+plural+".yaml", before)
	text, err := manifests.FS.ReadFile("crd/berth.dev_" + plural + ".yaml")
	if err == nil {
		err = yaml.UnmarshalStrict(text, now)
	}
	if err != nil {
		t.Fatal(err)
	}
	return before, now
}

// checkStored validates stored objects by the schema of now, and compares it with the earlier one.
func checkStored(t *testing.T, plural string, want int) {
	t.Helper()
	before, now := definitions(t, plural)
	schema := now.Spec.Versions[0].Schema.OpenAPIV3Schema
	for _, diff := range incompatible(plural, before.Spec.Versions[0].Schema.OpenAPIV3Schema, schema) {
		t.Error(diff)
	}
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(schema, internal, nil); err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(internal)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		APIVersion string           `json:"apiVersion"`
		Kind       string           `json:"kind"`
		Metadata   map[string]any   `json:"metadata"`
		Items      []map[string]any `json:"items"`
	}
	read(t, plural+".yaml", &list)
	if len(list.Items) != want || want == 0 {
		t.Fatalf("%d objects, want %d", len(list.Items), want)
	}
	for _, object := range list.Items {
		for _, err := range validation.ValidateCustomResource(nil, object, validator) {
			t.Errorf("%v is not valid any more: %v", object["metadata"].(map[string]any)["name"], err)
		}
	}
}

// incompatible lists what makes a newer schema no successor of an older one: a field that is gone or of another type, a
// value that is no longer allowed, a field that is required now, a list or object that was replaced as a whole and is merged
// now (after which nobody owns what is in it, see TestReportsAcrossDefinitions). Limits of length and patterns may get
// stricter as long as no version has written what they refuse.
func incompatible(path string, before, now *apiextensionsv1.JSONSchemaProps) []string {
	var diffs []string
	if before.Type != now.Type || before.Format != now.Format || before.XIntOrString != now.XIntOrString {
		diffs = append(diffs, fmt.Sprintf("%s: was %s %s, is %s %s", path, before.Type, before.Format, now.Type, now.Format))
	}
	for _, name := range now.Required {
		if _, had := before.Properties[name]; had && !slices.Contains(before.Required, name) {
			diffs = append(diffs, fmt.Sprintf("%s.%s: is required now", path, name))
		}
	}
	if len(now.Enum) > 0 {
		for _, value := range before.Enum {
			if !slices.ContainsFunc(now.Enum, func(v apiextensionsv1.JSON) bool { return string(v.Raw) == string(value.Raw) }) {
				diffs = append(diffs, fmt.Sprintf("%s: %s is not allowed any more", path, value.Raw))
			}
		}
		if len(before.Enum) == 0 {
			diffs = append(diffs, path+": anything was allowed")
		}
	}
	for name := range before.Properties {
		was := before.Properties[name]
		is, ok := now.Properties[name]
		if !ok {
			diffs = append(diffs, fmt.Sprintf("%s.%s: is gone", path, name))
			continue
		}
		diffs = append(diffs, incompatible(path+"."+name, &was, &is)...)
	}
	if isReplaced(before) && !isReplaced(now) {
		diffs = append(diffs, path+": was replaced as a whole, is merged")
	}
	if before.Items != nil && now.Items != nil {
		diffs = append(diffs, incompatible(path+"[]", before.Items.Schema, now.Items.Schema)...)
	}
	return diffs
}

// isReplaced says whether server-side apply replaces a list or an object as a whole.
func isReplaced(s *apiextensionsv1.JSONSchemaProps) bool {
	if s.Type == "array" {
		return s.XListType == nil || *s.XListType == "atomic"
	}
	return s.XMapType != nil && *s.XMapType == "atomic"
}

func TestIncompatibleSchemas(t *testing.T) {
	object := func(required []string, properties map[string]apiextensionsv1.JSONSchemaProps) *apiextensionsv1.JSONSchemaProps {
		return &apiextensionsv1.JSONSchemaProps{Type: "object", Required: required, Properties: properties}
	}
	text := apiextensionsv1.JSONSchemaProps{Type: "string"}
	enum := apiextensionsv1.JSONSchemaProps{Type: "string", Enum: []apiextensionsv1.JSON{{Raw: []byte(`"a"`)}}}
	list := func(listType *string) *apiextensionsv1.JSONSchemaProps {
		return &apiextensionsv1.JSONSchemaProps{Type: "array", XListType: listType}
	}
	type properties = map[string]apiextensionsv1.JSONSchemaProps
	for _, tc := range []struct {
		name        string
		before, now *apiextensionsv1.JSONSchemaProps
		want        string
	}{
		{"a field is added", object(nil, properties{"a": text}), object(nil, properties{"a": text, "b": text}), ""},
		{"a field is removed", object(nil, properties{"a": text}), object(nil, nil), "x.a: is gone"},
		{"a field becomes required", object(nil, properties{"a": text}), object([]string{"a"}, properties{"a": text}), "x.a: is required now"},
		{"a type changes", object(nil, properties{"a": text}), object(nil, properties{"a": {Type: "integer"}}), "x.a: was string , is integer "},
		{"a value is no longer allowed", &enum, &apiextensionsv1.JSONSchemaProps{Type: "string", Enum: []apiextensionsv1.JSON{{Raw: []byte(`"b"`)}}}, `x: "a" is not allowed any more`},
		{"a list is merged that was replaced", list(nil), list(new("map")), "x: was replaced as a whole, is merged"},
		{"a list is replaced that was merged", list(new("map")), list(new("atomic")), ""},
		{"values are restricted", &text, &enum, "x: anything was allowed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := strings.Join(incompatible("x", tc.before, tc.now), "; "); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
