// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"path/filepath"
	"strings"
	"testing"
)

// testChart installs the chart from the registry on a real API server, as Helm does it.
func (p *published) testChart(t *testing.T) {
	kubeconfig := p.startLab(t)
	env := []string{"KUBECONFIG=" + kubeconfig, "HOME=" + t.TempDir(), "PATH=" + p.bin + ":" + p.tools}
	// The lab has installed what the chart would.
	p.run(t, env, "kubectl", "delete", "--ignore-not-found", "-k", filepath.Join(p.repository, "manifests"))

	chart := "oci://" + p.to + "/charts/berth"
	version := strings.TrimPrefix(p.version, "v")
	shown := p.run(t, env, "helm", "show", "chart", chart, "--version", version, "--plain-http")
	for _, want := range []string{"appVersion: " + p.version, "artifacthub.io/changes:", "berth-agent:" + p.version} {
		if !strings.Contains(shown, want) {
			t.Errorf("the chart does not say %q:\n%s", want, shown)
		}
	}
	readme := p.run(t, env, "helm", "show", "readme", chart, "--version", version, "--plain-http")
	if want := "/charts/berth --version " + version; strings.Count(readme, want) != 3 {
		t.Errorf("the chart's README does not name the chart %q three times:\n%s", want, readme)
	}
	p.run(t, env, "helm", "install", "berth", chart, "--version", version, "--plain-http",
		"--namespace", "berth-system", "--create-namespace")
	images := p.run(t, env, "kubectl", "-n", "berth-system", "get", "deployments,daemonsets",
		"-o", "jsonpath={range .items[*]}{.spec.template.spec.containers[0].image}{\"\\n\"}{end}")
	for _, name := range []string{"scheduler", "controller", "agent"} {
		if want := "/berth-" + name + ":" + p.version + "\n"; !strings.Contains(images, want) {
			t.Errorf("no image …%s is asked for:\n%s", want, images)
		}
	}
	p.run(t, env, "kubectl", "get", "gpunodes,modelprofiles,leaderterms")
	p.run(t, env, "kubectl", "get", "mutatingadmissionpolicy", "berth-handoff")
	// An upgrade as the README has it.
	p.run(t, env, "sh", "-ec", "helm show crds "+chart+" --version "+version+" --plain-http | kubectl apply --server-side --force-conflicts -f -")
	p.run(t, env, "helm", "upgrade", "berth", chart, "--version", version, "--plain-http", "--namespace", "berth-system", "--reset-then-reuse-values")
	p.run(t, env, "helm", "uninstall", "berth", "--namespace", "berth-system")
}
