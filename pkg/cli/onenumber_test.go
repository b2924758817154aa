// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/hfconfig"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// TestOneNumberForOnePod: what the command says of a pod is what the scheduler books for it, and what the controller
// keeps measurements by, on each kind of GPU.
func TestOneNumberForOnePod(t *testing.T) {
	config, file := files(t)
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	safetensors, err := hfconfig.Parse(t.Context(), raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	header, err := modelfile.ReadPath(file)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		model *estimator.Model
		pod   *bt.Pod
		args  []string
	}{
		{
			"vLLM 0.19 that follows its booking", safetensors,
			bt.MakePod("p").Model("hf://org/m").Runtime(berthv1alpha1.RuntimeVLLM).Image("vllm/vllm-openai:v0.19.1").
				Args("--max-model-len=8k", "--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)"),
			[]string{"--config", config, "--runtime", "vllm", "--runtime-version", "0.19", "--max-model-len", "8k", "--gpu-memory-utilization", "auto"},
		},
		{
			"SGLang that follows its booking", safetensors,
			bt.MakePod("p").Model("hf://org/m").Runtime(berthv1alpha1.RuntimeSGLang).
				Args("--context-length=8192", "--mem-fraction-static", "$(BERTH_MEM_FRACTION_STATIC)", "--max-running-requests=64"),
			[]string{"--config", config, "--runtime", "sglang", "--context-length", "8192", "--mem-fraction-static", "auto", "--max-running-requests", "64"},
		},
		{
			"TensorRT-LLM that follows its booking", safetensors,
			bt.MakePod("p").Model("hf://org/m").Runtime(berthv1alpha1.RuntimeTensorRT).
				Args("--max_seq_len=8192", "--kv_cache_free_gpu_memory_fraction=$(BERTH_FREE_GPU_MEMORY_FRACTION)"),
			[]string{"--config", config, "--runtime", "tensorrt-llm", "--max-seq-len", "8192", "--free-gpu-memory-fraction", "auto"},
		},
		{
			"llama.cpp of a build that keeps logits of a whole batch for four slots", header,
			bt.MakePod("p").Model("hf://org/m/m.gguf").Runtime(berthv1alpha1.RuntimeLlamaCpp).GPUCount("1").
				Image("ghcr.io/ggml-org/llama.cpp:server-cuda-b9000").Args("-c", "32768", "-ctk", "q8_0", "-ctv", "q8_0", "-np", "4"),
			[]string{file, "--runtime", "llama.cpp", "--runtime-version", "b9000", "-c", "32768", "-ctk", "q8_0", "-ctv", "q8_0", "-np", "4"},
		},
		{
			"Ollama, whose context follows the GPU", header,
			bt.MakePod("p").Model("hf://org/m/m.gguf").Runtime(berthv1alpha1.RuntimeOllama).GPUCount("1"),
			[]string{file, "--runtime", "ollama"},
		},
	}
	for _, gpu := range []struct{ name, total string }{{"NVIDIA H100 80GB HBM3", "81559Mi"}, {"NVIDIA L40S", "46068Mi"}, {"NVIDIA A10", "23028Mi"}} {
		for _, tt := range tests {
			t.Run(tt.name+" on "+gpu.name, func(t *testing.T) {
				total := resource.MustParse(gpu.total)
				device := estimator.DeviceInfo{Total: total.Value(), Name: gpu.name}

				out, err := estimate(t, append(tt.args, "--gpu-count", "1", "--gpu-name", gpu.name, "--gpu-memory-total", gpu.total, "-o", "json")...)
				if err != nil {
					t.Fatal(err)
				}
				var command document
				if err := json.Unmarshal([]byte(out), &command); err != nil {
					t.Fatal(err)
				}
				shown := command.Options[0].Devices[0].Total

				pod := tt.pod.Obj()
				parsed, err := berthv1alpha1.ParsePodRequest(pod)
				if err != nil {
					t.Fatal(err)
				}
				profile := &berthv1alpha1.ModelProfile{}
				profile.Status.Model = tt.model
				profile.Status.Conditions = []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
				request, _, err := gpustate.NewRequest(pod, parsed, profile, gpustate.Sizing{})
				if err != nil {
					t.Fatal(err)
				}
				node := &alloc.Node{Devices: []alloc.Device{{UUID: "GPU-a", Model: gpu.name, Total: alloc.BytesOfInt64(total.Value())}}}
				if booked := request.On(node).Options()[0].Shares[0].Int64(); booked != shown {
					t.Errorf("the scheduler books %d, the command says %d", booked, shown)
				}

				settings, err := gpustate.EngineSettings(pod)
				if err != nil {
					t.Fatal(err)
				}
				kept, err := estimator.Estimate(tt.model, settings, []int{1}, device)
				if err != nil {
					t.Fatal(err)
				}
				if n := kept.Options[0].Devices[0].Total; n != shown {
					t.Errorf("by the controller's settings it is %d, the command says %d", n, shown)
				}
			})
		}
	}
}
