// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpunode

import (
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/manifests"
)

// schema is a part of the CRD's.
type schema map[string]any

// statusSchema returns the schema of the status of GPUNodes, as the shipped CRD has it.
func statusSchema(t testing.TB) schema {
	t.Helper()
	objects, err := manifests.Objects("crd/berth.dev_gpunodes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	versions, _, err := unstructured.NestedSlice(objects[0].Object, "spec", "versions")
	if err != nil {
		t.Fatal(err)
	}
	status, ok, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties", "status")
	if err != nil || !ok {
		t.Fatalf("the CRD has no schema of the status: %v", err)
	}
	return status
}

func (s schema) number(key string, none int) int {
	switch n := s[key].(type) {
	case int64:
		return int(n)
	case float64:
		return int(n)
	}
	return none
}

// patterns returns those of the schema and of its parts, the narrowest last.
func (s schema) patterns() (out []string) {
	if all, ok := s["allOf"].([]any); ok {
		for _, part := range all {
			out = append(out, schema(part.(map[string]any)).patterns()...)
		}
	}
	if p, ok := s["pattern"].(string); ok {
		out = append(out, p)
	}
	return out
}

// text draws a string that the schema admits.
func (s schema) text(t *rapid.T, path string) string {
	if enum, ok := s["enum"].([]any); ok {
		return rapid.SampledFrom(enum).Draw(t, path).(string)
	}
	most := s.number("maxLength", -1)
	if most < 0 {
		t.Fatalf("%s: a string without an end", path)
	}
	patterns := s.patterns()
	if len(patterns) == 0 {
		if s["format"] != nil {
			t.Fatalf("%s: a format without a pattern: the apiserver admits more than Go decodes", path)
		}
		return rapid.StringN(s.number("minLength", 0), most, -1).Draw(t, path)
	}
	admitted := func(text string) bool {
		if s["format"] == "date-time" { // of which the apiserver checks that there is such a day
			if _, err := time.Parse(time.DateOnly, text[:len(time.DateOnly)]); err != nil {
				return false
			}
		}
		return utf8.RuneCountInString(text) <= most && !slices.ContainsFunc(patterns, func(p string) bool {
			return !regexp.MustCompile(p).MatchString(text)
		})
	}
	return rapid.StringMatching(patterns[len(patterns)-1]).Filter(admitted).Draw(t, path)
}

// draw draws a value that the schema admits.
func (s schema) draw(t *rapid.T, path string) any {
	switch {
	case s["x-kubernetes-int-or-string"] == true && rapid.Bool().Draw(t, path+" is a number"):
		return rapid.Int64().Draw(t, path)
	case s["x-kubernetes-int-or-string"] == true, s["type"] == "string":
		return s.text(t, path)
	case s["type"] == "integer":
		return rapid.Int64Range(int64(s.number("minimum", math.MinInt32)), math.MaxInt32).Draw(t, path)
	case s["type"] == "boolean":
		return rapid.Bool().Draw(t, path)
	case s["type"] == "array":
		most := s.number("maxItems", -1)
		if most < 0 {
			t.Fatalf("%s: a list without an end", path)
		}
		list := make([]any, rapid.IntRange(0, min(most, 2)).Draw(t, path+" has"))
		for i := range list {
			list[i] = schema(s["items"].(map[string]any)).draw(t, path+"[]")
		}
		return list
	case s["type"] == "object":
		required, _ := s["required"].([]any)
		object := map[string]any{}
		properties := s["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			if slices.Contains(required, any(name)) || rapid.Bool().Draw(t, path+"."+name+" is set") {
				object[name] = schema(properties[name].(map[string]any)).draw(t, path+"."+name)
			}
		}
		return object
	}
	t.Fatalf("%s: a schema of no known type: %v", path, s)
	return nil
}

// readsWhatTheCRDAdmits draws from the CRD's own patterns, and decodes. A quantity that takes more than moments makes the
// test not end.
func readsWhatTheCRDAdmits(t testing.TB) func(*rapid.T) {
	status := statusSchema(t)
	return func(t *rapid.T) {
		raw, err := json.Marshal(status.draw(t, "status"))
		if err != nil {
			t.Fatal(err)
		}
		o := &Object{Raw: raw}
		if o.Decode(); o.Problem != "" {
			t.Fatalf("the apiserver admits it, and it cannot be read: %s\n%s", o.Problem, raw)
		}
		for i := range o.Status.Devices {
			_ = o.Status.Devices[i].Memory.Total.Value()
		}
		if _, err := json.Marshal(o.GPUNode()); err != nil {
			t.Fatalf("it is read, and cannot be written: %v\n%s", err, raw)
		}
	}
}

func TestWhatTheCRDAdmitsIsRead(t *testing.T) { rapid.Check(t, readsWhatTheCRDAdmits(t)) }

// TestEachPatternIsDecoded draws more of what has a pattern: in a whole status such strings are few, and short.
func TestEachPatternIsDecoded(t *testing.T) {
	properties := statusSchema(t)["properties"].(map[string]any)
	observed := schema(properties["observedTime"].(map[string]any))
	free := schema(properties["summary"].(map[string]any)["properties"].(map[string]any)["free"].(map[string]any))
	rapid.Check(t, func(t *rapid.T) {
		for range 50 {
			status := map[string]any{"observedTime": observed.text(t, "observedTime"), "summary": map[string]any{"free": free.text(t, "free")}}
			raw, err := json.Marshal(status)
			if err != nil {
				t.Fatal(err)
			}
			o := &Object{Raw: raw}
			if o.Decode(); o.Problem != "" {
				t.Fatalf("the apiserver admits it, and it cannot be read: %s\n%s", o.Problem, raw)
			}
		}
	})
}

// FuzzWhatTheCRDAdmitsIsRead draws from bytes instead of chance; a whole report takes some thousands.
func FuzzWhatTheCRDAdmitsIsRead(f *testing.F) {
	for seed := range byte(4) {
		drawn := make([]byte, 16<<10)
		_, _ = rand.NewChaCha8([32]byte{seed}).Read(drawn) // never fails
		f.Add(drawn)
	}
	f.Fuzz(rapid.MakeFuzz(readsWhatTheCRDAdmits(f)))
}

func TestCRDRefusesWhatCannotBeRead(t *testing.T) {
	status := statusSchema(t)
	properties := status["properties"].(map[string]any)
	free := schema(properties["summary"].(map[string]any)["properties"].(map[string]any)["free"].(map[string]any))
	observed := schema(properties["observedTime"].(map[string]any))
	refuses := func(s schema, text string) bool {
		return utf8.RuneCountInString(text) > s.number("maxLength", math.MaxInt) || slices.ContainsFunc(s.patterns(), func(p string) bool {
			return !regexp.MustCompile(p).MatchString(text)
		})
	}
	for _, bomb := range bombs {
		var text string
		if err := json.Unmarshal([]byte(bomb), &text); err != nil {
			t.Fatal(err)
		}
		if !refuses(free, text) {
			t.Errorf("quantity %.40q is admitted", text)
		}
	}
	for _, text := range []string{"2026-01-01t00:00:00z", "2026-01-01T00:00:00+99:99", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z"} {
		if !refuses(observed, text) {
			t.Errorf("time %q is admitted", text)
		}
	}
	for _, text := range []string{"0", "80Gi", "85520809984", "1500m", "1e3"} {
		if refuses(free, text) {
			t.Errorf("quantity %q is refused", text)
		}
	}
	for _, text := range []string{"2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789+05:30"} {
		if refuses(observed, text) {
			t.Errorf("time %q is refused", text)
		}
	}
}

// A device that another field manager adds to a map stays beside the agent's own for ever; an atomic list has one owner.
func TestDevicesAreReplacedAsAWhole(t *testing.T) {
	devices := statusSchema(t)["properties"].(map[string]any)["devices"].(map[string]any)
	if got := devices["x-kubernetes-list-type"]; got != "atomic" {
		t.Errorf("the list type of devices is %v", got)
	}
}
