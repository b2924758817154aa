// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/pkg/lab/gpusim"
)

func TestUniform(t *testing.T) {
	nodes, err := Uniform(2, 4, "nvidia h100 80gb hbm3")
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 2 || nodes[1].Name != "gpu-1" {
		t.Fatalf("nodes = %v, want gpu-0 and gpu-1", nodes)
	}
	if got := nodes[1].Annotations[gpusim.AnnotationGPUs]; got != "4xH100-80" {
		t.Errorf("GPUs = %q, want 4xH100-80", got)
	}
	if got := nodes[1].Status.Allocatable.Cpu().Value(); got != 128 {
		t.Errorf("allocatable CPUs = %d, want 128", got)
	}
}

func TestUniformRefusesWhatIsNoFleet(t *testing.T) {
	for name, try := range map[string]func() ([]*corev1.Node, error){
		"too few nodes": func() ([]*corev1.Node, error) { return Uniform(-1, 8, "H100-80") },
		"too few GPUs":  func() ([]*corev1.Node, error) { return Uniform(1, 0, "H100-80") },
		"too many GPUs": func() ([]*corev1.Node, error) { return Uniform(1, 65, "H100-80") },
		"unknown model": func() ([]*corev1.Node, error) { return Uniform(1, 8, "abacus") },
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDemoHasUnlikeGPUsAndForeignMemory(t *testing.T) {
	nodes, err := Load(Demo)
	if err != nil {
		t.Fatal(err)
	}
	models, foreign := map[string]int{}, 0
	for _, node := range nodes {
		spec, err := gpusim.ParseSpec(node.Annotations)
		if err != nil {
			t.Fatal(err)
		}
		for _, model := range spec.GPUs {
			models[model.Short]++
		}
		foreign += len(spec.Foreign)
	}
	if models["H100-80"] != 8 || models["A100-40"] != 4 || models["L40S-48"] < 2 || foreign != 1 {
		t.Errorf("GPUs %v, %d of them with foreign memory", models, foreign)
	}
}

func TestLoadKeepsWhatTheFileSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	text := "---\napiVersion: v1\nkind: Node\nmetadata: {name: small, labels: {kubernetes.io/arch: arm64}}\n" +
		"status: {capacity: {cpu: 4, memory: 8Gi, pods: 10}}\n---\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 1 || nodes[0].Labels[corev1.LabelArchStable] != "arm64" || nodes[0].Labels[corev1.LabelHostname] != "small" ||
		nodes[0].Status.Allocatable.Cpu().Value() != 4 {
		t.Errorf("nodes = %+v", nodes)
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Pod\nmetadata: {name: p}\n":                                            `Pod "p" is not a Node`,
		"kind: Node\nmetadata: {name: n1, annotations: {lab.berth.dev/gpus: 8xV9}}\n": "node n1: lab.berth.dev/gpus",
		"kind: Node\nmetadata: {nam: n}\n":                                            `unknown field "nam"`,
	} {
		file := filepath.Join(t.TempDir(), "fleet.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("error = %v, want one with %s and the file's name", err, want)
		}
	}
}
