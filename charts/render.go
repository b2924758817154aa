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

// Cluster is what Helm learns of a cluster.
type Cluster struct {
	// KubeVersion is the apiserver's, such as v1.37.2.
	KubeVersion string
	// APIs are the kinds that it serves beside those which every version does, such as
	// admissionregistration.k8s.io/v1/MutatingAdmissionPolicy.
	APIs []string
}

// Current is a cluster of the version that Berth is built from.
var Current = Cluster{KubeVersion: "v1.37.0", APIs: []string{mutatingV1}}

const mutatingV1 = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"

// Render returns the YAML documents of a chart in a folder, CustomResourceDefinitions first, as "helm install
// --namespace" with these values would send them to a cluster.
func Render(folder, namespace string, values map[string]any, cluster Cluster) ([]string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	release := chartutil.ReleaseOptions{Name: "berth", Namespace: namespace, IsInstall: true}
	version, err := chartutil.ParseKubeVersion(cluster.KubeVersion)
	if err != nil {
		return nil, err
	}
	if r := chart.Metadata.KubeVersion; r != "" && !chartutil.IsCompatibleRange(r, version.String()) {
		return nil, fmt.Errorf("chart requires kubeVersion %s, which %s is not", r, version)
	}
	capabilities := &chartutil.Capabilities{
		KubeVersion: *version, APIVersions: append(chartutil.VersionSet{"v1", "apps/v1"}, cluster.APIs...),
	}
	rendered, err := chartutil.ToRenderValues(chart, values, release, capabilities)
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
