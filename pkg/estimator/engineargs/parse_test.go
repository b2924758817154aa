// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/model"
)

func TestParse(t *testing.T) {
	const tp, util = "$(BERTH_TENSOR_PARALLEL_SIZE)", "$(BERTH_GPU_MEMORY_UTILIZATION)"
	const uneven = "SGLang refuses to start on GPUs whose free memory differs by more than a tenth; where it shares GPUs, set SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK=0"
	vllm := func(s estimator.Settings) estimator.Settings { s.Runtime = estimator.RuntimeVLLM; return s }
	llama := func(s estimator.Settings) estimator.Settings { s.Runtime = estimator.RuntimeLlamaCpp; return s }
	tests := []struct {
		name      string
		runtime   estimator.Runtime
		container Container
		want      Result
	}{
		{
			name: "vllm serve with values after = and after a space",
			container: Container{
				Command: []string{"vllm", "serve", "Qwen/Qwen3-8B"},
				Args:    []string{"--tensor-parallel-size=2", "--gpu-memory-utilization", "0.85", "--max-model-len", "8k", "--enforce-eager"},
			},
			want: Result{
				Runtime: estimator.RuntimeVLLM, Model: "Qwen/Qwen3-8B",
				TensorParallel:       Number{Source: Literal, Value: 2},
				GPUMemoryUtilization: Number{Source: Literal, Value: 850_000},
				Settings:             vllm(estimator.Settings{ContextLength: 8000, GPUMemoryUtilization: 850_000, EnforceEager: true}),
			},
		},
		{
			name:      "references to Berth's variables are seen in args",
			runtime:   estimator.RuntimeVLLM,
			container: Container{Args: []string{"--model=m", "-tp", tp, "--gpu-memory-utilization=" + util}},
			want: Result{
				Runtime: estimator.RuntimeVLLM, Model: "m",
				TensorParallel: Number{Source: Berth}, GPUMemoryUtilization: Number{Source: Berth},
				Settings: vllm(estimator.Settings{UtilizationHandedOver: true}),
			},
		},
		{
			name: "references to Berth's variables are seen in a shell string, in both spellings",
			container: Container{
				Command: []string{"/bin/bash", "-c"},
				Args:    []string{"set -e; export X=1\nexec vllm serve \"$MODEL\" --tensor-parallel-size ${BERTH_TENSOR_PARALLEL_SIZE:-1} \\\n --gpu-memory-utilization=" + util + " --max-num-seqs 64 # done"},
				Env:     map[string]string{"MODEL": "a/b"},
			},
			want: Result{
				Runtime: estimator.RuntimeVLLM, Model: "a/b",
				TensorParallel: Number{Source: Berth}, GPUMemoryUtilization: Number{Source: Berth},
				Settings: vllm(estimator.Settings{MaxNumSeqs: 64, UtilizationHandedOver: true}),
			},
		},
		{
			name: "the module form with underscores and a value from a ConfigMap",
			container: Container{
				Command:    []string{"python3", "-m", "vllm.entrypoints.openai.api_server"},
				Args:       []string{"--max_model_len=$(LEN)", "--max_num_batched_tokens", "4096", "--model", "m"},
				UnknownEnv: map[string]bool{"LEN": true},
			},
			want: Result{
				Runtime: estimator.RuntimeVLLM, Model: "m", Unknown: []string{"--max_model_len"},
				Settings: vllm(estimator.Settings{MaxNumBatchedTokens: 4096}),
			},
		},
		{
			name:      "a literal variable is expanded as the kubelet does, and $$ is a dollar",
			runtime:   estimator.RuntimeVLLM,
			container: Container{Args: []string{"--max-model-len=$(LEN)", "--model=$$x"}, Env: map[string]string{"LEN": "$(INNER)", "INNER": "1024"}},
			want: Result{
				Runtime: estimator.RuntimeVLLM, Model: "$x",
				Settings: vllm(estimator.Settings{ContextLength: 1024}),
			},
		},
		{
			name:      "what a shell computes is unknown",
			container: Container{Command: []string{"sh", "-ec", "vllm serve m --tensor-parallel-size $(nvidia-smi -L | wc -l) --max-num-seqs `nproc`"}},
			want: Result{
				Runtime: estimator.RuntimeVLLM, Model: "m", TensorParallel: Number{Source: Unknown},
				Unknown: []string{"--max-num-seqs", "--tensor-parallel-size"}, Settings: vllm(estimator.Settings{}),
			},
		},
		{
			name:      "values that make no sense are reported with their flag",
			runtime:   estimator.RuntimeVLLM,
			container: Container{Args: []string{"--tensor-parallel-size=two", "--gpu-memory-utilization=90", "--max-num-seqs=-"}},
			want: Result{
				Runtime: estimator.RuntimeVLLM, Settings: vllm(estimator.Settings{}),
				Invalid: []string{"--tensor-parallel-size two", "--gpu-memory-utilization 90", "--max-num-seqs -"},
			},
		},
		{
			name:      "multi-token prediction is read from JSON",
			runtime:   estimator.RuntimeVLLM,
			container: Container{Args: []string{"--speculative-config", `{"method":"mtp","num_speculative_tokens":3}`}},
			want:      Result{Runtime: estimator.RuntimeVLLM, Settings: vllm(estimator.Settings{SpeculativeTokens: 3})},
		},
		{
			name: "llama-server's short flags, flags over variables",
			container: Container{
				Command: []string{"/app/llama-server"},
				Args:    []string{"-m", "/models/x.gguf", "-c", "8192", "-np", "4", "-ngl", "26", "-fa", "--no-mmproj", "-ctk", "q8_0", "-ts", "$(BERTH_TENSOR_SPLIT)"},
				Env:     map[string]string{"LLAMA_ARG_CTX_SIZE": "1024", "LLAMA_ARG_UBATCH": "256"},
			},
			want: Result{
				Runtime: estimator.RuntimeLlamaCpp, Model: "/models/x.gguf", TensorSplit: Berth,
				Settings: llama(estimator.Settings{
					ContextLength: 8192, Parallel: 4, MicroBatchSize: 256, GPULayers: estimator.LayersOf(26),
					FlashAttention: estimator.SwitchOn, NoVision: true, KVCacheType: "q8_0", KVCacheTypeV: "f16",
				}),
			},
		},
		{
			name:      "flash attention with a value, all layers, and a separate draft model",
			runtime:   estimator.RuntimeLlamaCpp,
			container: Container{Args: []string{"-fa", "off", "-ngl", "-1", "-md", "draft.gguf", "-np", "-1"}},
			want: Result{
				Runtime: estimator.RuntimeLlamaCpp, Unknown: []string{"-md"},
				Settings: llama(estimator.Settings{FlashAttention: estimator.SwitchOff}),
			},
		},
		{
			name:    "Ollama is read from its environment",
			runtime: estimator.RuntimeOllama,
			container: Container{
				Env:        map[string]string{"OLLAMA_CONTEXT_LENGTH": "8192", "OLLAMA_NUM_PARALLEL": "2", "OLLAMA_KV_CACHE_TYPE": "q8_0"},
				UnknownEnv: map[string]bool{"OLLAMA_FLASH_ATTENTION": true},
			},
			want: Result{
				Runtime: estimator.RuntimeOllama, Unknown: []string{"OLLAMA_FLASH_ATTENTION"},
				Settings: estimator.Settings{Runtime: estimator.RuntimeOllama, ContextLength: 8192, Parallel: 2, KVCacheType: "q8_0"},
			},
		},
		{
			name:      "an imported ConfigMap makes a reference that nobody defines unknown",
			runtime:   estimator.RuntimeVLLM,
			container: Container{Args: []string{"--max-num-seqs", "$(SEQS)"}, OpaqueEnvFrom: true},
			want:      Result{Runtime: estimator.RuntimeVLLM, Unknown: []string{"--max-num-seqs"}, Settings: vllm(estimator.Settings{})},
		},
		{
			name:      "an unknown program is no engine",
			container: Container{Command: []string{"sleep", "infinity"}},
			want:      Result{},
		},
		{
			name:      "vLLM with a draft model of its own size, which is known and no longer taken for a value from elsewhere",
			container: Container{Args: []string{"vllm", "serve", "a/b", "-sc", `{"method":"eagle3","model":"c/d","num_speculative_tokens":3}`}},
			want:      Result{Runtime: estimator.RuntimeVLLM, Model: "a/b", Settings: vllm(estimator.Settings{SpeculativeTokens: 3, DraftModel: "c/d"})},
		},
		{
			name:      "vLLM for embeddings, with a longer context by a variable",
			container: Container{Args: []string{"vllm", "serve", "a/b", "--runner", "pooling"}, Env: map[string]string{"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}},
			want:      Result{Runtime: estimator.RuntimeVLLM, Model: "a/b", Settings: vllm(estimator.Settings{Embeddings: true, LongContext: true})},
		},
		{
			name:      "vLLM with an overridden configuration and prefix caching",
			container: Container{Args: []string{"vllm", "serve", "a/b", "--hf-overrides", `{"rope_parameters":{}}`, "--enable-prefix-caching", "--max-num-seqs", "8"}},
			want:      Result{Runtime: estimator.RuntimeVLLM, Model: "a/b", Settings: vllm(estimator.Settings{LongContext: true, PrefixCaching: estimator.SwitchOn, MaxNumSeqs: 8})},
		},
		{
			name:      "llama-server for embeddings",
			container: Container{Args: []string{"llama-server", "--embeddings"}},
			want:      Result{Runtime: estimator.RuntimeLlamaCpp, Settings: llama(estimator.Settings{Embeddings: true})},
		},
		{
			name:      "llama-server for reranking, by a variable",
			runtime:   estimator.RuntimeLlamaCpp,
			container: Container{Env: map[string]string{"LLAMA_ARG_RERANKING": "1"}},
			want:      Result{Runtime: estimator.RuntimeLlamaCpp, Settings: llama(estimator.Settings{Embeddings: true})},
		},
		{
			name:      "llama-server with the model's own prediction layers, three tokens by default",
			container: Container{Args: []string{"llama-server", "--spec-type", "ngram-mod,draft-mtp"}},
			want:      Result{Runtime: estimator.RuntimeLlamaCpp, Settings: llama(estimator.Settings{SpeculativeTokens: 3})},
		},
		{
			name:      "a number of draft tokens is not the model's own without its kind",
			container: Container{Args: []string{"llama-server", "--draft-max", "8", "-md", "draft.gguf"}},
			want:      Result{Runtime: estimator.RuntimeLlamaCpp, Settings: llama(estimator.Settings{}), Unknown: []string{"-md"}},
		},
		{
			name: "SGLang, in its abbreviations and with underscores",
			container: Container{
				Command: []string{"python3", "-m", "sglang.launch_server"},
				Args: []string{"--model-path", "Qwen/Qwen3-8B", "--tp", tp, "--mem_fraction_static=$(BERTH_MEM_FRACTION_STATIC)", "--context-length", "32768",
					"--chunked-prefill-size", "4096", "--cuda-graph-max-bs=64", "--kv-cache-dtype", "fp8_e4m3", "--max-running-requests", "128", "--quantization", "fp8"},
			},
			want: Result{
				Runtime: estimator.RuntimeSGLang, Model: "Qwen/Qwen3-8B", OnSeveral: uneven,
				TensorParallel: Number{Source: Berth}, GPUMemoryUtilization: Number{Source: Berth},
				Settings: estimator.Settings{
					Runtime: estimator.RuntimeSGLang, ContextLength: 32768, MaxNumBatchedTokens: 4096, GraphBatchSize: 64, KVCacheType: "fp8_e4m3",
					MaxNumSeqs: 128, Quantization: "fp8", UtilizationHandedOver: true,
				},
			},
		},
		{
			name: "TensorRT-LLM behind its launcher, with underscores",
			container: Container{
				Command: []string{"trtllm-llmapi-launch", "trtllm-serve", "nvidia/Llama-3.1-8B-Instruct-FP8"},
				Args: []string{"--tp_size", "2", "--kv_cache_free_gpu_memory_fraction=$(BERTH_FREE_GPU_MEMORY_FRACTION)", "--max_seq_len", "32768",
					"--max_batch_size=64", "--max_num_tokens", "4096", "--extra_llm_api_options", "/config/extra.yaml"},
			},
			want: Result{
				Runtime: estimator.RuntimeTensorRT, Model: "nvidia/Llama-3.1-8B-Instruct-FP8", Unknown: []string{"--extra_llm_api_options"},
				TensorParallel: Number{Source: Literal, Value: 2}, GPUMemoryUtilization: Number{Source: Berth},
				Settings: estimator.Settings{
					Runtime: estimator.RuntimeTensorRT, ContextLength: 32768, MaxNumSeqs: 64, MaxNumBatchedTokens: 4096, UtilizationHandedOver: true,
				},
			},
		},
		{
			name: "SGLang with two copies of the model, its draft and a cache of its own size",
			container: Container{
				Command: []string{"sglang", "serve"},
				Args: []string{"--model-path=m", "--tp-size=2", "--dp-size", "2", "--max-total-tokens", "65536", "--speculative-algorithm", "EAGLE3",
					"--speculative-draft-model-path", "draft", "--speculative-num-draft-tokens=8", "--chunked-prefill-size", "-1"},
			},
			want: Result{
				Runtime: estimator.RuntimeSGLang, Model: "m", TensorParallel: Number{Source: Literal, Value: 2}, DataParallel: Number{Source: Literal, Value: 2},
				KVCacheMemory: Number{Source: Literal, Value: 65536}, OnSeveral: uneven,
				Settings: estimator.Settings{
					Runtime: estimator.RuntimeSGLang, DataParallel: 2, MaxTotalTokens: 65536, SpeculativeTokens: 8, DraftModel: "draft", MaxNumBatchedTokens: 16384,
				},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Parse(tt.runtime, tt.container)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReferencesToReferencesEnd(t *testing.T) {
	// 1000 × 1000 × 1000 × 1000 references to nothing.
	env := map[string]string{"E": ""}
	for _, pair := range []string{"AB", "BC", "CD", "DE"} {
		env[pair[:1]] = strings.Repeat("$("+pair[1:]+")", 1000)
	}
	r := Parse(estimator.RuntimeVLLM, Container{Args: []string{"--model=$(A)", "--max-num-seqs=$(A)"}, Env: env})
	if diff := cmp.Diff([]string{"--max-num-seqs", "--model"}, r.Unknown); diff != "" {
		t.Errorf("unknown settings (-want +got):\n%s", diff)
	}
}

// FuzzParse looks for panics and endless loops: the scheduler parses whatever pods contain.
func FuzzParse(f *testing.F) {
	f.Add("vllm serve m --tensor-parallel-size ${BERTH_TENSOR_PARALLEL_SIZE:-1}", "VALUE", true)
	f.Add("exec llama-server -c $((1+2)) -fa `x` \"$@\" 'a\\'", "$(A) $(B)", false)
	f.Add("\x00${", "$(", true)
	f.Fuzz(func(t *testing.T, script, value string, shell bool) {
		c := Container{Env: map[string]string{"A": value, "B": "$(A)", "OLLAMA_NUM_PARALLEL": value}, UnknownEnv: map[string]bool{"U": true}}
		if shell {
			c.Command = []string{"sh", "-c", script, "x", value}
		} else {
			c.Args = strings.Fields(script)
		}
		for _, runtime := range append([]estimator.Runtime{""}, model.Runtimes...) {
			r := Parse(runtime, c)
			if n := r.TensorParallel; n.Source == Literal && n.Value < 1 {
				t.Errorf("tensor-parallel size %d from %q", n.Value, script)
			}
			if n := r.GPUMemoryUtilization; n.Source == Literal && (n.Value < 1 || n.Value > 1_000_000) {
				t.Errorf("utilization %d from %q", n.Value, script)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	c := Container{Args: []string{
		"--model=m", "--tensor-parallel-size=$(BERTH_TENSOR_PARALLEL_SIZE)", "--max-model-len", "8192", "--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)",
	}}
	b.ReportAllocs()
	for b.Loop() {
		Parse(estimator.RuntimeVLLM, c)
	}
}
