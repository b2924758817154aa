// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// TestHandOffComponents builds the installation as for older apiservers, by an overlay as docs/install.md has it. Only
// the mutating policies may differ.
func TestHandOffComponents(t *testing.T) {
	const v1, v1beta1 = "admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1beta1"
	mutating := func(object string) bool { return strings.HasPrefix(object, "MutatingAdmissionPolicy") }
	all := buildWith(t, "")
	if len(all) < 30 {
		t.Fatalf("only %d objects", len(all))
	}
	tests := []struct {
		component string
		want      func(object string) (apiVersion string, there bool)
	}{
		{"no-handoff", func(object string) (string, bool) { return "", !mutating(object) }},
		{"handoff-v1beta1", func(string) (string, bool) { return v1beta1, true }},
	}
	for _, tt := range tests {
		t.Run(tt.component, func(t *testing.T) {
			want, changed := map[string]string{}, 0
			for object, text := range all {
				version, there := tt.want(object)
				if mutating(object) {
					changed++
					text = strings.Replace(text, v1, version, 1)
				}
				if there {
					want[object] = text
				}
			}
			if changed != 4 {
				t.Errorf("%d mutating policies and bindings, want 4", changed)
			}
			if diff := cmp.Diff(want, buildWith(t, tt.component)); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPolicyComponents: each is off by default, and adds its policy to what there is.
func TestPolicyComponents(t *testing.T) {
	all := buildWith(t, "")
	for _, component := range []string{"runtime-classes", "limits"} {
		with := buildWith(t, component)
		for _, object := range []string{"ValidatingAdmissionPolicy berth-" + component, "ValidatingAdmissionPolicyBinding berth-" + component} {
			if all[object] != "" || with[object] == "" {
				t.Errorf("%s: without the component %q, with it %q", object, all[object], with[object])
			}
			delete(with, object)
		}
		if diff := cmp.Diff(all, with); diff != "" {
			t.Errorf("other objects (-without +with %s):\n%s", component, diff)
		}
	}
}

// TestResourceComponent adds its policies to what there is, and a flag to the controller's, and nothing else.
func TestResourceComponent(t *testing.T) {
	all, with := buildWith(t, ""), buildWith(t, "gpu-memory-resource")
	for _, object := range []string{
		"MutatingAdmissionPolicy berth-resource", "MutatingAdmissionPolicy berth-resource-node",
		"ValidatingAdmissionPolicy berth-resource-quota", "ValidatingAdmissionPolicy berth-resource-jobs",
	} {
		binding := strings.Replace(object, "Policy ", "PolicyBinding ", 1)
		if all[object] != "" || with[object] == "" || with[binding] == "" {
			t.Errorf("%s: without the component %q, with it %q, binding %q", object, all[object], with[object], with[binding])
		}
		delete(with, object)
		delete(with, binding)
	}
	const controller = "Deployment berth-controller"
	all[controller] = strings.Replace(all[controller], "config.yaml\n", "config.yaml\n        - --gpu-memory-resource\n", 1)
	if diff := cmp.Diff(all, with); diff != "" {
		t.Errorf("other objects (-without +with the component):\n%s", diff)
	}
}

// TestRulesComponent adds the rules to what there is, and nothing else.
func TestRulesComponent(t *testing.T) {
	all, with := buildWith(t, ""), buildWith(t, "monitoring-rules")
	if all["PrometheusRule berth"] != "" || !strings.Contains(with["PrometheusRule berth"], "alert: BerthSchedulerDown") {
		t.Errorf("without the component %q, with it %q", all["PrometheusRule berth"], with["PrometheusRule berth"])
	}
	delete(with, "PrometheusRule berth")
	if diff := cmp.Diff(all, with); diff != "" {
		t.Errorf("other objects (-without +with the rules):\n%s", diff)
	}
}

// TestDashboardsComponent adds a ConfigMap for each dashboard to what there is, and nothing else.
func TestDashboardsComponent(t *testing.T) {
	all, with := buildWith(t, ""), buildWith(t, "monitoring-dashboards")
	for _, name := range []string{"fleet", "models", "node", "pending"} {
		object := "ConfigMap berth-dashboard-" + name
		for _, text := range []string{`grafana_dashboard: "1"`, "namespace: berth-system", "  berth-" + name + ".json: |"} {
			if !strings.Contains(with[object], text) {
				t.Errorf("%s does not have %q", object, text)
			}
		}
		// kubectl apply keeps the object in an annotation as well, and all annotations together may have 256Ki.
		if size := len(with[object]); size > 200<<10 {
			t.Errorf("%s has %d bytes", object, size)
		}
		delete(with, object)
	}
	if diff := cmp.Diff(all, with); diff != "" {
		t.Errorf("other objects (-without +with the dashboards):\n%s", diff)
	}
}

// buildWith returns the objects of an overlay with a component; of one without any for "".
func buildWith(t *testing.T, component string) map[string]string {
	t.Helper()
	fs := filesys.MakeFsOnDisk()
	overlay, err := filesys.NewTmpConfirmedDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fs.RemoveAll(overlay.String()) })
	root, _, err := fs.CleanedAbs(".")
	if err != nil {
		t.Fatal(err)
	}
	text := "resources: [" + relative(t, overlay.String(), root.String()) + "]\n"
	if component != "" {
		text += "components: [" + relative(t, overlay.String(), root.Join("components/"+component)) + "]\n"
	}
	if err := fs.WriteFile(overlay.Join("kustomization.yaml"), []byte(text)); err != nil {
		t.Fatal(err)
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, overlay.String())
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]string{}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		objects[r.GetKind()+" "+r.GetName()] = string(text)
	}
	return objects
}

// relative is how an overlay names a folder: kustomize takes no absolute paths.
func relative(t *testing.T, from, to string) string {
	t.Helper()
	path, err := filepath.Rel(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
