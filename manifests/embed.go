// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifests holds what is installed into a cluster, as kubectl apply -k would apply it.
package manifests

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// FS holds the files of this folder, by their paths below it.
//
//go:embed *.yaml */*.yaml components/gpu-memory-resource/*.yaml
var FS embed.FS

// Objects returns the objects of files and of folders with a kustomization, in the order in which they are listed;
// "." is the whole installation. It follows the resources of a kustomization and does nothing else that kustomize
// does, so what a configMapGenerator makes is missing.
func Objects(paths ...string) ([]*unstructured.Unstructured, error) { return ObjectsIn(FS, paths...) }

// ObjectsIn is Objects of another folder such as this one.
func ObjectsIn(fsys fs.FS, paths ...string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, p := range paths {
		some, err := read(fsys, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		objects = append(objects, some...)
	}
	return objects, nil
}

func read(fsys fs.FS, p string) ([]*unstructured.Unstructured, error) {
	info, err := fs.Stat(fsys, p)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return readFile(fsys, p)
	}
	text, err := fs.ReadFile(fsys, path.Join(p, "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	if err := sigsyaml.Unmarshal(text, &kustomization); err != nil {
		return nil, err
	}
	for i, r := range kustomization.Resources {
		kustomization.Resources[i] = path.Join(p, r)
	}
	return ObjectsIn(fsys, kustomization.Resources...)
}

func readFile(fsys fs.FS, p string) ([]*unstructured.Unstructured, error) {
	text, err := fs.ReadFile(fsys, p)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}
