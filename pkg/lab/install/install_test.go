// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestObjectsAreInTheOrderInWhichTheyCanBeApplied(t *testing.T) {
	files := fstest.MapFS{
		"a/binding.yaml":       file("ClusterRoleBinding", "binding"),
		"a/deployment.yaml":    file("Deployment", "skipped"),
		"a/kustomization.yaml": file("Kustomization", ""),
		"a/README.md":          {Data: []byte("no YAML: {")},
		"b/more.yaml":          {Data: []byte("---\nkind: ServiceAccount\nmetadata: {name: account}\n---\n\n---\nkind: Namespace\nmetadata: {name: first}\n")},
		"other/crd.yaml":       file("CustomResourceDefinition", "other folder"),
	}
	objects, err := Objects(files, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, object := range objects {
		got = append(got, object.GetName())
	}
	if want := []string{"first", "account", "binding"}; !slices.Equal(got, want) {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

func TestAnUnknownKindIsAnErrorThatNamesFileAndObject(t *testing.T) {
	_, err := Objects(fstest.MapFS{"a/x.yaml": file("Gadget", "g1")}, "a")
	if err == nil || !strings.Contains(err.Error(), "a/x.yaml") || !strings.Contains(err.Error(), "g1") {
		t.Errorf("error = %v, want one that names a/x.yaml and g1", err)
	}
}

func file(kind, name string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("kind: " + kind + "\nmetadata: {name: '" + name + "'}\n")}
}
