// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
	"github.com/berth-dev/berth/test/integration/harness"
)

// startKinds are kinds of GPU, and what SGLang takes of each when it is told nothing, by its server_args.py: (memory −
// reserve) / memory with 3760 and 13440 MiB.
var startKinds = []struct {
	name, model string
	total       int64 // MiB
	sglang      float64
}{
	{"l4", "NVIDIA L4", 23034, 0.836},
	{"h100", "NVIDIA H100 80GB HBM3", 81559, 0.835},
	{"h200", "NVIDIA H200", 143771, 0.906},
}

// TestPublicStartsOnTheLab creates pods whose containers are those of public repositories, one of each engine, with nothing
// but a model added, and looks at what they are given on three kinds of GPU.
func TestPublicStartsOnTheLab(t *testing.T) {
	hub := modeltest.NewServer(t, map[string]modeltest.File{
		"/org/small/resolve/main/config.json": modeltest.Content(`{"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","torch_dtype":"bfloat16",` +
			`"hidden_size":1024,"intermediate_size":3072,"num_hidden_layers":28,"num_attention_heads":16,"num_key_value_heads":8,"head_dim":128,` +
			`"vocab_size":151936,"max_position_embeddings":8192,"tie_word_embeddings":true}`),
		"/org/small/resolve/main/model.safetensors": safetensors(),
		"/org/tiny/resolve/main/x.gguf":             modeltest.Tiny.GGUF(),
	})
	lab := harness.Start(t, "--bare", "--controller-arg=--hf-endpoint="+hub.URL)
	starts := publicStarts(t)
	tests := []struct {
		start, model string
		// fraction is what it takes of each GPU by its documentation; 0 for one that takes what it needs, −1 for SGLang's.
		fraction float64
		gpus     int
	}{
		{"Dynamo: Qwen3 0.6B by vLLM", "hf://org/small", 0.92, 1},
		{"Dynamo: Qwen3 0.6B by SGLang", "hf://org/small", -1, 1},
		{"Dynamo: Qwen3 0.6B by TensorRT-LLM, with a file of settings", "hf://org/small", 0.9, 1},
		{"GKE: Gemma 2 9B by Text Generation Inference", "hf://org/small", 1, 2},
		{"LMDeploy: a deployment with a shell", "hf://org/small", 0.8, 1},
		{"NIM: Llama 3.1 8B on KServe", "hf://org/small", 1, 1},
		{"llama.cpp documentation: the server's image", "hf://org/tiny/x.gguf", 0, 1},
		{"Ollama: the example of its repository", "hf://org/tiny/x.gguf", 0, 1},
	}
	for _, kind := range startKinds {
		report := berthtesting.MakeGPUNode(kind.name)
		for i := range 10 {
			report.GPU(berthtesting.GPUOf(kind.name, i), fmt.Sprintf("%dMi", kind.total)).Model(kind.model)
		}
		lab.AddNode(t, berthtesting.MakeNode(kind.name), report.Obj())
	}
	type placed struct {
		pod  *corev1.Pod
		test int
		kind int
	}
	var pods []placed
	for i, tt := range tests {
		container, ok := starts[tt.start]
		if !ok {
			t.Fatalf("no start %q", tt.start)
		}
		for j, kind := range startKinds {
			pod := berthtesting.MakePod(fmt.Sprintf("start-%d-on-%s", i, kind.name)).Model(tt.model)
			pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: kind.name}
			own := &pod.Spec.Containers[0]
			own.Command, own.Args, own.EnvFrom = container.Command, container.Args, container.EnvFrom
			own.Env = append(own.Env, container.Env...)
			if container.Image != "" {
				own.Image = container.Image
			}
			pods = append(pods, placed{harness.Create(t, lab, pod.Obj()), i, j})
		}
	}
	for _, p := range pods {
		tt, kind := tests[p.test], startKinds[p.kind]
		_, allocation := lab.WaitBound(t, p.pod)
		if len(allocation.Devices) != tt.gpus {
			t.Errorf("%s on %s: %d GPUs, want %d", tt.start, kind.name, len(allocation.Devices), tt.gpus)
		}
		fraction := tt.fraction
		if fraction < 0 {
			fraction = kind.sglang
		}
		for _, d := range allocation.Devices {
			has := float64(d.Memory.Uint64()) / (1 << 20)
			all := float64(kind.total - 256) // the rest is headroom, which nobody is given
			switch least := min(fraction*float64(kind.total), all); {
			case has < least || has > all:
				t.Errorf("%s on %s: %.0f MiB are booked, want at least %.0f and at most %.0f", tt.start, kind.name, has, least, all)
			case fraction == 0 && has > 2048:
				t.Errorf("%s on %s: %.0f MiB are booked for a tiny model", tt.start, kind.name, has)
			}
		}
	}
}

// publicStarts returns the containers by their names.
func publicStarts(t *testing.T) map[string]corev1.Container {
	t.Helper()
	files, err := filepath.Glob("../../pkg/gpustate/testdata/starts/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]corev1.Container{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list []struct {
			Name      string           `json:"name"`
			Container corev1.Container `json:"container"`
		}
		if err := yaml.Unmarshal(data, &list); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, s := range list {
			all[s.Name] = s.Container
		}
	}
	return all
}

// safetensors is a file with the tensors of the small model, of zeros.
func safetensors() modeltest.File {
	var header strings.Builder
	var offset int
	add := func(name string, rows, columns int) {
		size := 2 * rows * columns
		fmt.Fprintf(&header, `%q:{"dtype":"BF16","shape":[%d,%d],"data_offsets":[%d,%d]},`, name, rows, columns, offset, offset+size)
		offset += size
	}
	add("model.embed_tokens.weight", 151936, 1024)
	for i := range 28 {
		layer := fmt.Sprintf("model.layers.%d.", i)
		add(layer+"self_attn.q_proj.weight", 2048, 1024)
		add(layer+"self_attn.k_proj.weight", 1024, 1024)
		add(layer+"self_attn.v_proj.weight", 1024, 1024)
		add(layer+"self_attn.o_proj.weight", 1024, 2048)
		add(layer+"mlp.gate_proj.weight", 3072, 1024)
		add(layer+"mlp.up_proj.weight", 3072, 1024)
		add(layer+"mlp.down_proj.weight", 1024, 3072)
	}
	text := "{" + strings.TrimSuffix(header.String(), ",") + "}"
	head := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	return modeltest.File{Head: head, Size: int64(len(head) + offset)}
}
