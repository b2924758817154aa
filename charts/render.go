// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package charts renders the Helm chart as Helm would, for tests.
package charts

import (
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// Render returns the YAML documents of a chart in a folder, CustomResourceDefinitions first, as "helm install
// --namespace" with these values would send them.
func Render(folder, namespace string, values map[string]any) ([]string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	release := chartutil.ReleaseOptions{Name: "berth", Namespace: namespace, IsInstall: true}
	rendered, err := chartutil.ToRenderValues(chart, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, rendered)
	if err != nil {
		return nil, err
	}
	var documents []string
	for _, crd := range chart.CRDObjects() {
		documents = append(documents, string(crd.File.Data))
	}
	var names []string
	for name := range files {
		if strings.HasSuffix(name, ".yaml") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		documents = append(documents, files[name])
	}
	return documents, nil
}
