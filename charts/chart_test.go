// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"
)

// render returns the objects of the chart, by kind and name.
func render(t *testing.T, namespace string, values map[string]any) (map[string]map[string]any, error) {
	t.Helper()
	return renderFor(t, Current, namespace, values)
}

func renderFor(t *testing.T, cluster Cluster, namespace string, values map[string]any) (map[string]map[string]any, error) {
	t.Helper()
	documents, err := Render("berth", namespace, values, cluster)
	if err != nil {
		return nil, err
	}
	objects := map[string]map[string]any{}
	for _, document := range documents {
		decode(t, []byte(document), objects)
	}
	return objects, nil
}

func decode(t *testing.T, text []byte, objects map[string]map[string]any) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if len(object) > 0 {
			objects[key(object)] = object
		}
	}
}

func key(object map[string]any) string {
	metadata, _ := object["metadata"].(map[string]any)
	return fmt.Sprint(object["kind"], " ", metadata["name"])
}

// kustomized returns the objects of manifests/, without the hashes in the names of ConfigMaps.
func kustomized(t *testing.T) map[string]map[string]any {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../manifests")
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	hash := regexp.MustCompile(`(berth-[a-z]+-config)-[a-z0-9]{10}\n`)
	objects := map[string]map[string]any{}
	decode(t, hash.ReplaceAll(text, []byte("$1\n")), objects)
	return objects
}

// comparable takes away what differs by design: the order and comments of configurations, and the checksum that
// rolls a Deployment instead of the hash in the name.
func comparable(t *testing.T, objects map[string]map[string]any) map[string]map[string]any {
	t.Helper()
	for _, object := range objects {
		if data, ok := object["data"].(map[string]any); ok {
			var config map[string]any
			if err := sigsyaml.Unmarshal([]byte(data["config.yaml"].(string)), &config); err != nil {
				t.Fatal(err)
			}
			object["data"] = config
		}
		spec, _ := object["spec"].(map[string]any)
		template, _ := spec["template"].(map[string]any)
		metadata, _ := template["metadata"].(map[string]any)
		if annotations, ok := metadata["annotations"].(map[string]any); ok && len(annotations) == 1 && annotations["checksum/config"] != nil {
			delete(metadata, "annotations")
		}
	}
	return objects
}

// TestChartIsTheKustomization renders the chart with its defaults. The Namespace is Helm's to make.
func TestChartIsTheKustomization(t *testing.T) {
	want := comparable(t, kustomized(t))
	delete(want, "Namespace berth-system")
	objects, err := render(t, "berth-system", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, comparable(t, objects)); diff != "" {
		t.Errorf("objects (-kustomization +chart):\n%s", diff)
	}
	if len(want) < 25 {
		t.Errorf("only %d objects were compared", len(want))
	}
}

func TestChartValues(t *testing.T) {
	objects, err := render(t, "berth-system", map[string]any{
		"image":             map[string]any{"repository": "registry.test/berth", "tag": "v9", "pullPolicy": "Never"},
		"imagePullSecrets":  []any{map[string]any{"name": "pull"}},
		"runtimeClassName":  "",
		"deviceAnnotations": map[string]any{"exemptNamespaces": []any{"berth-system", "run-ai"}},
		"scheduler": map[string]any{
			"args": map[string]any{"headroom": "1Gi", "enforcement": "NVIDIAToolkit"}, "nodeSelector": map[string]any{"a": "b"}, "nodeResourceTopologyMatch": true,
		},
		"controller":         map[string]any{"config": map[string]any{"noDefaultHosts": true}, "extraArgs": []any{"--profiles-per-namespace=300"}},
		"agent":              map[string]any{"extraArgs": []any{"--memory-quantum=128Mi"}, "nri": true, "hostFolders": []any{"/etc/containerd", "/var/lib/rancher"}},
		"priorityClasses":    map[string]any{"create": false},
		"networkPolicy":      map[string]any{"create": false},
		"podMonitors":        map[string]any{"create": true},
		"runtimeClassPolicy": map[string]any{"create": true},
		"limitsPolicy":       map[string]any{"create": true},
	})
	if err != nil {
		t.Fatal(err)
	}
	haveTexts(t, objects, map[string][]string{
		"ConfigMap berth-scheduler-config":     {"headroom: 1Gi", "enforcement: NVIDIAToolkit", "staleAfter: 60s", "- name: NodeResourceTopologyMatch\n", "weight: 1501"},
		"ClusterRole berth-scheduler-topology": {"noderesourcetopologies"},
		"ConfigMap berth-controller-config":    {"noDefaultHosts: true"},
		"Deployment berth-controller":          {"--profiles-per-namespace=300"},
		"Deployment berth-scheduler":           {"registry.test/berth/berth-scheduler:v9", "imagePullPolicy: Never", "name: pull", "a: b"},
		"DaemonSet berth-agent": {"--memory-quantum=128Mi", "--nri", "nvidia.cdi.k8s.io/container.agent: management.nvidia.com/gpu=all",
			"mountPath: /var/run/cdi", "--host-folders=/etc/containerd,/var/lib/rancher", "path: /etc/containerd\n",
			"mountPath: /host/var/lib/rancher\n", "name: host-var-lib-rancher"},
		"MutatingAdmissionPolicy berth-handoff":                  {"expression: ''''''\n", "expression: '''NVIDIAToolkit'''\n"},
		"ValidatingAdmissionPolicy berth-devices":                {"expression: '[''berth-system'', ''run-ai'']'\n"},
		"ValidatingAdmissionPolicyBinding berth-runtime-classes": {"- berth-system\n", "- allowed\n"},
		"ValidatingAdmissionPolicy berth-runtime-classes":        {"nvidia-legacy"},
		"ValidatingAdmissionPolicyBinding berth-limits":          {"- Deny\n"},
		"ValidatingAdmissionPolicy berth-limits":                 {"berth.dev/max-gpu-memory"},
		"PodMonitor berth":                                       {"monitoring.coreos.com/v1"},
		"PodMonitor berth-agent":                                 {"scheme: https", "name: berth-metrics"},
	})
	for name, object := range objects {
		if strings.HasPrefix(name, "PriorityClass ") || strings.HasPrefix(name, "NetworkPolicy ") {
			t.Errorf("%s is there", name)
		}
		if spec, ok := object["spec"].(map[string]any); ok && name == "DaemonSet berth-agent" {
			template := spec["template"].(map[string]any)["spec"].(map[string]any)
			if class, ok := template["runtimeClassName"]; ok {
				t.Errorf("the agents have the RuntimeClass %q", class)
			}
		}
	}
}

func TestHandOffPolicyFollowsTheCluster(t *testing.T) {
	const v1, v1beta1 = "admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1beta1"
	kube135 := Cluster{KubeVersion: "v1.35.4-gke.1069000"}
	switchedOn := Cluster{KubeVersion: "v1.35.4", APIs: []string{v1beta1 + "/MutatingAdmissionPolicy"}}
	kube136 := Cluster{KubeVersion: "v1.36.3", APIs: []string{mutatingV1}}
	tests := []struct {
		name    string
		cluster Cluster
		value   string
		want    string // apiVersion; empty for no policy
	}{
		{"Kubernetes 1.36", kube136, "auto", v1},
		{"Kubernetes 1.35, where v1beta1 is switched on", switchedOn, "auto", v1beta1},
		{"Kubernetes 1.35 as it is", kube135, "auto", ""},
		{"no cluster is asked, and the value says v1", kube135, "v1", v1},
		{"no cluster is asked, and the value says v1beta1", kube135, "v1beta1", v1beta1},
		{"the admin wants none", kube136, "none", ""},
	}
	all, err := render(t, "berth-system", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := renderFor(t, tt.cluster, "berth-system", map[string]any{"handOffPolicy": tt.value})
			if err != nil {
				t.Fatal(err)
			}
			config, err := sigsyaml.Marshal(objects["ConfigMap berth-scheduler-config"])
			if err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Contains(string(config), "policiesLeftOut:"), tt.value == "none"; got != want {
				t.Errorf("the scheduler is told of policies that are left out: %v", got)
			}
			for name, object := range all {
				want := object["apiVersion"]
				if strings.HasPrefix(name, "MutatingAdmissionPolicy") {
					want = tt.want
				}
				got, there := objects[name]
				switch {
				case want == "" && there:
					t.Errorf("%s is there", name)
				case want != "" && (!there || got["apiVersion"] != want):
					t.Errorf("%s has apiVersion %v, want %v", name, got["apiVersion"], want)
				}
			}
		})
	}
	if _, err := renderFor(t, Cluster{KubeVersion: "v1.34.9"}, "berth-system", nil); err == nil || !strings.Contains(err.Error(), "1.35") {
		t.Errorf("Kubernetes 1.34: error %v, want one that names 1.35", err)
	}
}

func TestChartRefusesWrongValues(t *testing.T) {
	tests := []struct {
		name      string
		namespace string
		values    map[string]any
		want      string
	}{
		{"another namespace", "default", nil, "berth-system"},
		{"a misspelt value", "berth-system", map[string]any{"schedular": map[string]any{}}, "schedular"},
		{"a strategy that does not exist", "berth-system", map[string]any{"scheduler": map[string]any{"args": map[string]any{"strategy": "Tightest"}}}, "strategy"},
		{"a duration without a unit", "berth-system", map[string]any{"scheduler": map[string]any{"args": map[string]any{"staleAfter": "60"}}}, "staleAfter"},
		{"a namespace that is none", "berth-system", map[string]any{"deviceAnnotations": map[string]any{"exemptNamespaces": []any{"a'b"}}}, "exemptNamespaces"},
		{"a folder that is none", "berth-system", map[string]any{"agent": map[string]any{"hostFolders": []any{"etc"}}}, "hostFolders"},
		{"a version of the policies that does not exist", "berth-system", map[string]any{"handOffPolicy": "v2"}, "handOffPolicy"},
		{"negative replicas", "berth-system", map[string]any{"scheduler": map[string]any{"replicas": -1}}, "replicas"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := render(t, tc.namespace, maps.Clone(tc.values))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one about %s", err, tc.want)
			}
		})
	}
}

// TestResourceOfTheChart: the value has the policies of the kustomize component, and tells both programs.
func TestResourceOfTheChart(t *testing.T) {
	want := map[string]map[string]any{}
	for _, file := range []string{"mutating", "validating"} {
		text, err := os.ReadFile("../manifests/components/gpu-memory-resource/" + file + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		decode(t, text, want)
	}
	off, err := render(t, "berth-system", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string]map[string]any{
		"the value":                    {"gpuMemoryResource": true},
		"the argument of the plugin":   {"scheduler": map[string]any{"args": map[string]any{"gpuMemoryResource": true}}},
		"the value and another amount": {"gpuMemoryResource": true, "scheduler": map[string]any{"args": map[string]any{"headroom": "1Gi"}}},
	} {
		objects, err := render(t, "berth-system", values)
		if err != nil {
			t.Fatal(err)
		}
		for object := range want {
			if diff := cmp.Diff(want[object], objects[object]); diff != "" || off[object] != nil {
				t.Errorf("%s: %s is there without it: %v; with it (-component +chart):\n%s", name, object, off[object] != nil, diff)
			}
		}
		headroom := "--headroom=256Mi\n"
		if strings.Contains(name, "another") {
			headroom = "--headroom=1Gi\n"
		}
		haveTexts(t, objects, map[string][]string{
			"ConfigMap berth-scheduler-config": {"gpuMemoryResource: true"},
			"Deployment berth-controller":      {"- --gpu-memory-resource\n", headroom},
		})
	}
	if _, err := render(t, "berth-system", map[string]any{"gpuMemoryResource": true, "handOffPolicy": "none"}); err == nil || !strings.Contains(err.Error(), "gpuMemoryResource needs") {
		t.Errorf("without mutating policies: %v", err)
	}
}

// haveTexts checks that rendered objects have some texts.
func haveTexts(t *testing.T, objects map[string]map[string]any, texts map[string][]string) {
	t.Helper()
	for object, contents := range texts {
		text, err := sigsyaml.Marshal(objects[object])
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range contents {
			if !strings.Contains(string(text), content) {
				t.Errorf("%s does not have %q:\n%s", object, content, text)
			}
		}
	}
}

// TestRulesOfTheChart are those of the kustomize component, with the labels that select them.
func TestRulesOfTheChart(t *testing.T) {
	text, err := os.ReadFile("../manifests/components/monitoring-rules/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{}
	decode(t, text, want)
	for _, labels := range []map[string]any{nil, {"release": "monitoring"}} {
		rules := map[string]any{"enabled": true}
		if labels != nil {
			rules["labels"] = labels
			want["PrometheusRule berth"]["metadata"].(map[string]any)["labels"] = labels
		}
		objects, err := render(t, "berth-system", map[string]any{"monitoring": map[string]any{"rules": rules}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want["PrometheusRule berth"], objects["PrometheusRule berth"]); diff != "" {
			t.Errorf("rules with labels %v (-component +chart):\n%s", labels, diff)
		}
	}
}

// TestDashboardsOfTheChart are those of the kustomize component, with the labels that select them.
func TestDashboardsOfTheChart(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../manifests/components/monitoring-dashboards")
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{}
	decode(t, text, want)
	if len(want) != 4 {
		t.Fatalf("%d dashboards, want 4", len(want))
	}
	for _, labels := range []map[string]any{nil, {"grafana_dashboard": "1", "team": "ml"}} {
		dashboards := map[string]any{"enabled": true}
		if labels != nil {
			dashboards["labels"] = labels
		}
		objects, err := render(t, "berth-system", map[string]any{"monitoring": map[string]any{"dashboards": dashboards}})
		if err != nil {
			t.Fatal(err)
		}
		for name, object := range want {
			if labels != nil {
				object["metadata"].(map[string]any)["labels"] = labels
			}
			if diff := cmp.Diff(object, objects[name]); diff != "" {
				t.Errorf("%s with labels %v (-component +chart):\n%s", name, labels, diff)
			}
		}
	}
	objects, err := render(t, "berth-system", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if objects[name] != nil {
			t.Errorf("%s is there by default", name)
		}
	}
}

// TestAgentsMetricsForAll: probes and Prometheus follow.
func TestAgentsMetricsForAll(t *testing.T) {
	objects, err := render(t, "berth-system", map[string]any{
		"agent": map[string]any{"secureMetrics": false}, "podMonitors": map[string]any{"create": true},
	})
	if err != nil {
		t.Fatal(err)
	}
	haveTexts(t, objects, map[string][]string{
		"DaemonSet berth-agent": {"--secure-metrics=false", "scheme: HTTP\n"},
		"PodMonitor berth":      {"- berth-agent\n"},
	})
	if _, ok := objects["PodMonitor berth-agent"]; ok {
		t.Error("Prometheus is told to scrape the agents twice")
	}
}
