// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/model"
)

// running returns a pod that states 20Gi and no engine.
func running(image string, words ...string) *bt.Pod {
	p := bt.MakePod("p").Memory("20Gi")
	if image != "" {
		p.Image(image)
	}
	p.Spec.Containers[0].Command = words
	return p
}

func withEnv(p *bt.Pod, name, value string) *bt.Pod {
	c := &p.Spec.Containers[0]
	c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	return p
}

// TestNoGreedyEngineInDisguise: a pod that says nothing of its engine is booked what the engine that it shows takes of an
// H100 of 81559 MiB, not the 20Gi that it states.
func TestNoGreedyEngineInDisguise(t *testing.T) {
	const whole = 81559
	for _, tt := range []struct {
		name  string
		pod   *bt.Pod
		takes float64 // MiB
	}{
		{"vllm serve with a fraction", running("", "vllm", "serve", "m", "--gpu-memory-utilization", "0.9"), 0.9*whole + startOnOne},
		{"vllm serve in a shell", running("", "sh", "-c", "pip list && exec vllm serve m --gpu-memory-utilization=0.9"), 0.9*whole + startOnOne},
		{"vLLM's module", running("", "python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "m"), 0.92*whole + startOnOne},
		{"a script of one line that imports vLLM", running("", "python3", "-c", "from vllm import LLM; LLM('m')"), 0.92*whole + startOnOne},
		{"vLLM by its image", running("vllm/vllm-openai:v0.19.1"), 0.90*whole + startOnOne + oldGraphs},
		{"vLLM of another registry", running("public.ecr.aws/q9t5/vllm-release-repo:latest"), 0.92*whole + startOnOne},
		{"vLLM of NVIDIA", running("nvcr.io/nvidia/vllm:26.02-py3"), 0.92*whole + startOnOne},
		{"Triton with vLLM", running("nvcr.io/nvidia/tritonserver:25.10-vllm-python-py3", "tritonserver", "--model-repository=/m"), 0.92*whole + startOnOne},
		{"llm-d", running("ghcr.io/llm-d/llm-d-cuda:v0.4.0"), 0.92*whole + startOnOne},
		{"KServe's server", running("kserve/huggingfaceserver:v0.15.0-gpu", "python", "-m", "huggingfaceserver", "--model_id=m", "--gpu_memory_utilization=0.5"), 0.5*whole + startOnOne},
		{"Dynamo with vLLM", running("", "python3", "-m", "dynamo.vllm", "--model", "m"), 0.92*whole + startOnOne},
		{"SGLang", running("", "python3", "-m", "sglang.launch_server", "--model-path", "m", "--mem-fraction-static", "0.5"), 0.5*whole + sglangReserve},
		{"SGLang by its image", running("lmsysorg/sglang:v0.5.6-cu129"), whole},
		{"trtllm-serve", running("", "trtllm-serve", "m"), 20480 + 0.9*(whole-20480)},
		{"Triton with TensorRT-LLM", running("nvcr.io/nvidia/tritonserver:25.10-trtllm-python-py3", "tritonserver"), 20480 + 0.9*(whole-20480)},
		{"Text Generation Inference", running("", "text-generation-launcher", "--model-id", "m"), whole},
		{"Text Generation Inference with a fraction", running("ghcr.io/huggingface/text-generation-inference:3.3", "text-generation-launcher", "--cuda-memory-fraction", "0.4"), 0.4*whole + startOnOne},
		{"LMDeploy", running("", "lmdeploy", "serve", "api_server", "m"), 20480 + 0.8*(whole-20480)},
		{"LMDeploy with a fraction", running("openmmlab/lmdeploy:v0.10", "lmdeploy", "serve", "api_server", "m", "--cache-max-entry-count=0.2"), 20480 + 0.2*(whole-20480)},
		{"a NIM", running("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.13"), whole},
		{"a NIM with a fraction", withEnv(running("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.13"), "NIM_KVCACHE_PERCENT", "0.3"), 0.3*whole + startOnOne},
		{"JAX with a fraction", withEnv(running(""), "XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6"), 0.6*whole + startOnOne},
		{"JAX that is told to preallocate", withEnv(running(""), "XLA_PYTHON_CLIENT_PREALLOCATE", "true"), 0.75*whole + startOnOne},

		{"JAX that allocates as it goes", withEnv(running(""), "XLA_PYTHON_CLIENT_PREALLOCATE", "false"), 20480},
		{"Text Embeddings Inference", running("ghcr.io/huggingface/text-embeddings-inference:1.8"), 20480},
		{"llama-server", running("", "llama-server", "-m", "x.gguf"), 20480},
		{"Ollama", running("ollama/ollama:0.30.1", "ollama", "serve"), 20480},
		{"KServe's server without vLLM", running("", "python", "-m", "huggingfaceserver", "--model_id=m", "--backend=huggingface"), 20480},
		{"vLLM's router", running("ghcr.io/vllm-project/production-stack/vllm-router:0.1", "router"), 20480},
		{"a folder called vllm", running("", "python3", "train.py", "--output", "/data/vllm"), 20480},
		{"anything else", running("pytorch/pytorch:2.9", "python3", "train.py"), 20480},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := askedBy(t, tt.pod, nil)
			node := nodeOf(h100)
			option := r.On(node).Options()[0]
			booked := float64(option.On(0, &node.Devices[0]).Uint64()) / (1 << 20)
			if booked < tt.takes || tt.takes == 20480 && booked > tt.takes {
				t.Errorf("booked %.0f MiB, it takes %.0f", booked, tt.takes)
			}
			recognised := false
			for _, n := range r.Notes {
				recognised = recognised || n.Reason == "EngineRecognised"
			}
			if want := tt.takes != 20480; recognised != want {
				t.Errorf("the owner was told that it was recognised: %v, want %v", recognised, want)
			}
		})
	}
}

// TestAGreedyEngineThatIsTold: what the note says to write makes it take what was promised.
func TestAGreedyEngineThatIsTold(t *testing.T) {
	for _, pod := range []*bt.Pod{
		running("", "vllm", "serve", "m", "--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)"),
		running("", "python3", "-m", "sglang.launch_server", "--mem-fraction-static=$(BERTH_MEM_FRACTION_STATIC)", "--chunked-prefill-size=2048", "--max-running-requests=64"),
		running("", "text-generation-launcher", "--cuda-memory-fraction=$(BERTH_GPU_MEMORY_UTILIZATION)"),
		withEnv(running("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.13"), "NIM_KVCACHE_PERCENT", "$(BERTH_GPU_MEMORY_UTILIZATION)"),
		withEnv(running(""), "XLA_PYTHON_CLIENT_MEM_FRACTION", "$(BERTH_GPU_MEMORY_UTILIZATION)"),
	} {
		r := askedBy(t, pod, nil)
		node := nodeOf(h100)
		if booked := r.On(node).Options()[0].On(0, &node.Devices[0]); booked != alloc.GiB(20) {
			t.Errorf("%v %v: booked %s, want the 20Gi that it is told to take", pod.Spec.Containers[0].Image, pod.Spec.Containers[0].Command, booked)
		}
	}
}

func TestANamedEngineIsNotAnother(t *testing.T) {
	for _, tt := range []struct {
		name    string
		runtime berthv1alpha1.Runtime
		pod     *bt.Pod
		refused string // "" = not
		warned  bool
	}{
		{"custom, and the command starts vLLM", custom, running("", "vllm", "serve", "m"), "write berth.dev/runtime: vllm", false},
		{"custom, and the command starts an engine without a name", custom, running("", "text-generation-launcher"), "write no berth.dev/runtime", false},
		{"Ollama, and the command starts SGLang", ollama, running("", "python", "-m", "sglang.launch_server"), "write berth.dev/runtime: sglang", false},
		{"vLLM, and the command starts SGLang", vllm, running("", "python", "-m", "sglang.launch_server"), "write berth.dev/runtime: sglang", false},
		{"custom, and only the image is vLLM's: a wrapper that knows better", custom, running("example.com/my-vllm-wrapper:1", "serve"), "", true},
		{"vLLM, and the image is another's", vllm, running("example.com/sglang:1"), "", false},
		{"vLLM, and it is", vllm, running("", "vllm", "serve", "m"), "", false},
		{"vLLM, with a fraction that only the shell knows", vllm, running("", "sh", "-c", "vllm serve m --gpu-memory-utilization $FRACTION"), "write the number there, or --gpu-memory-utilization=$(BERTH_", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := tt.pod.Runtime(tt.runtime).Obj()
			parsed, err := berthv1alpha1.ParsePodRequest(pod)
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := NewRequest(pod, parsed, nil, Sizing{})
			switch {
			case tt.refused == "" && err != nil, tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)):
				t.Errorf("error %v, want one with %q", err, tt.refused)
			case err != nil:
			default:
				warned := false
				for _, n := range r.Notes {
					warned = warned || n.Reason == "EngineRecognised" && n.Warning
				}
				if warned != tt.warned {
					t.Errorf("warned %v, want %v", warned, tt.warned)
				}
			}
		})
	}
}

// TestAnEngineThatTakesWhatItNeedsIsShownToo: its defaults are not those of the usual engine for the model's format.
func TestAnEngineThatTakesWhatItNeedsIsShownToo(t *testing.T) {
	profile := profileOf(t)
	profile.Status.Model.Format = model.FormatGGUF
	for image, want := range map[string]berthv1alpha1.Runtime{
		"ollama/ollama:0.32.15": ollama, "ghcr.io/ggml-org/llama.cpp:server-cuda-b9843": llamaCpp,
		"ghcr.io/ggml-org/llama.cpp:light-cuda": custom,
	} {
		pod := bt.MakePod("p").Model("hf://org/llama-8b").Image(image)
		if r := askedBy(t, pod, profile); r.Runtime != want {
			t.Errorf("%s is booked as %q, want %q", image, r.Runtime, want)
		}
		if r := askedBy(t, pod.Memory("20Gi"), profile); r.Runtime != custom || len(r.Options()) != 1 {
			t.Errorf("%s with a total of its own is booked as %q in %d ways, want as it is", image, r.Runtime, len(r.Options()))
		}
	}
}
