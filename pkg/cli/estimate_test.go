// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/estimator/gguftest"
)

const llama8B = `{"architectures":["LlamaForCausalLM"],"hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,` +
	`"intermediate_size":14336,"vocab_size":128256,"max_position_embeddings":131072}`

// files writes a configuration and a GGUF header and returns their paths.
func files(t *testing.T) (config, model string) {
	t.Helper()
	dir := t.TempDir()
	config, model = filepath.Join(dir, "config.json"), filepath.Join(dir, "m.gguf")
	spec := gguftest.Model{
		Architecture: "llama", Layers: 32, Hidden: 4096, FeedForward: 14336, Heads: 32, KVHeads: 8, KeyDim: 128, ValueDim: 128, Vocabulary: 128256,
		Context: 131072, Type: gguftest.Q4_K,
	}
	for name, data := range map[string][]byte{config: []byte(llama8B), model: spec.Write()} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config, model
}

// estimate runs the command and returns what it prints.
func estimate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	streams, _, out, _ := genericiooptions.NewTestIOStreams()
	root := NewCommand(streams)
	root.SetArgs(EngineSpelling(append([]string{"estimate"}, args...)))
	root.SilenceErrors = true
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// shape is the contract of -o json.
type shape struct {
	Options []struct {
		GPUCount           int   `json:"gpuCount"`
		TensorParallelSize int   `json:"tensorParallelSize"`
		KVBytesPerToken    int64 `json:"kvBytesPerToken"`
		Feasible           *bool `json:"feasible"`
		Devices            []struct {
			Total      int64            `json:"total"`
			Components map[string]int64 `json:"components"`
		} `json:"devices"`
	} `json:"options"`
}

func TestEstimateJSON(t *testing.T) {
	config, model := files(t)
	for name, args := range map[string][]string{
		"vLLM from a configuration": {"--config", config, "--runtime", "vllm", "--context-length", "8192", "--gpu-count", "1,2,4", "--gpu-memory-total", "79.19Gi", "-o", "json"},
		"llama.cpp from a file":     {model, "--runtime", "llama.cpp", "--context-length", "8192", "--parallel", "4", "--kv-cache-type", "q8_0", "--gpu-count", "1-2", "-o", "json"},
		"engines' own names":        {"--model-config=" + config, "--runtime=vllm", "--vllm-version=0.19.0", "--max_model_len=8192", "--gpus=2", "--max-num-seqs=256", "--kv-cache-dtype=fp8", "--enforce-eager", "--output=json"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := estimate(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			var got shape
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			if len(got.Options) == 0 {
				t.Fatalf("no options in %s", out)
			}
			for _, o := range got.Options {
				if len(o.Devices) != o.GPUCount || o.TensorParallelSize < 1 || o.KVBytesPerToken <= 0 || o.Feasible == nil {
					t.Errorf("option %+v", o)
				}
				for _, d := range o.Devices {
					var sum int64
					for _, key := range []string{"weights", "kvCache", "recurrentState", "compute", "engine"} {
						n, ok := d.Components[key]
						if !ok {
							t.Errorf("component %s is missing in %s", key, out)
						}
						sum += n
					}
					if sum != d.Total || len(d.Components) != 5 {
						t.Errorf("components %v of total %d", d.Components, d.Total)
					}
				}
			}
		})
	}
}

func TestEstimateTable(t *testing.T) {
	config, model := files(t)
	out, err := estimate(t, "--config", config, "--gpu-count", "1,2,3", "-c", "8192")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"LlamaForCausalLM, 8.0B parameters, BF16, weights computed from the configuration", "32 attention", "Runtime: vllm",
		"KV/TOKEN", "131072", "Not on 3 GPUs: tensor-parallel size 3 does not divide the model's 32 attention heads.",
		"Fits on:\n  1 GPU: L4, A10, RTX 4090", "2 GPUs: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, err = estimate(t, model, "--gpu-count", "1", "--context-length", "131072", "--gpu-memory-total", "8Gi")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "no: needs") {
		t.Errorf("what does not fit is not said in\n%s", out)
	}
}

// TestEstimateSaysWhatItAssumes: settings that nobody gave have a star, those that were given have none.
func TestEstimateSaysWhatItAssumes(t *testing.T) {
	config, model := files(t)
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{
			"vLLM with nothing said", []string{"--config", config},
			"Settings: release 0.26*, context 131072*, requests of it 1*, sequences 1024*, tokens a step 8192*, utilization 0.92* (*: assumed, the engine's default)",
		},
		{
			"vLLM with its own spelling", []string{"--config", config, "--max-model-len", "32k", "--gpu-memory-utilization=0.8", "--vllm-version", "0.19.0", "--max-num-seqs", "64", "-tp", "2"},
			"Settings: release 0.19.0, context 32000, requests of it 1*, sequences 64, tokens a step 8192*, utilization 0.8 (*",
		},
		{
			"llama.cpp with its own spelling", []string{model, "-ngl", "99", "-c", "8192", "-np", "2", "-ub", "256", "-ctk", "q8_0", "--flash-attn", "on", "--kv-unified", "off"},
			"Settings: release b10470*, context 8192, slots 2, micro-batch 256, cache type q8_0 (*",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := estimate(t, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out, tt.want) {
				t.Errorf("no %q in\n%s", tt.want, out)
			}
		})
	}
	out, err := estimate(t, model, "-c", "8192", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Model struct {
			Architecture, Quantization, WeightsSource string
			Parameters                                int64
		}
		Used    struct{ ContextLength, Parallel int64 }
		Assumed []string
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Model.Architecture != "llama" || got.Model.Quantization != "Q4_K" || got.Model.WeightsSource != "tensors" || got.Model.Parameters < 8e9 {
		t.Errorf("model %+v", got.Model)
	}
	if diff := cmp.Diff([]string{"version", "parallel", "microBatchSize", "kvCacheType"}, got.Assumed); diff != "" || got.Used.ContextLength != 8192 || got.Used.Parallel != 4 {
		t.Errorf("used %+v, assumed (-want +got):\n%s", got.Used, diff)
	}
}

func TestOnlyRefusedCountsPrintNoTable(t *testing.T) {
	config, _ := files(t)
	out, err := estimate(t, "--config", config, "--gpu-count", "3")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "TOTAL") || strings.Contains(out, "Fits on") || !strings.Contains(out, "Not on 3 GPUs") {
		t.Errorf("printed\n%s", out)
	}
}

func TestAContextBeyondTheModelsIsSaidWithoutAGPU(t *testing.T) {
	config, _ := files(t)
	out, err := estimate(t, "--config", config, "-c", "262144")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "no: the context of 262144 tokens is longer than the model's 131072") || strings.Contains(out, "Fits on") {
		t.Errorf("printed\n%s", out)
	}
}

func TestEngineSpelling(t *testing.T) {
	for text, want := range map[string]string{
		"estimate m.gguf -ngl 20 -fa on":         "estimate m.gguf --gpu-layers 20 --flash-attention=on",
		"estimate m.gguf --flash-attn off -c 8k": "estimate m.gguf --flash-attn=off -c 8k",
		"estimate --flash_attn m.gguf":           "estimate --flash_attn m.gguf",
		"estimate m.gguf -ctk=q8_0 --kv-unified": "estimate m.gguf --kv-cache-type=q8_0 --kv-unified",
		"--context prod estimate m.gguf -np 2":   "--context prod estimate m.gguf --parallel 2",
		"top -ngl 20":                            "top -ngl 20",
		"estimate -- -ngl":                       "estimate -- -ngl",
	} {
		if got := strings.Join(EngineSpelling(strings.Fields(text)), " "); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestEstimateErrors(t *testing.T) {
	config, model := files(t)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no model", nil, "name a model"},
		{"two models", []string{model, "--config", config}, "either MODEL or --config"},
		{"a file that is not there", []string{"absent.gguf"}, "no such file"},
		{"an unknown output", []string{model, "-o", "yaml"}, "neither table nor json"},
		{"an unknown engine", []string{model, "--runtime", "tgi"}, "none of vllm, ollama, llama.cpp, sglang, tensorrt-llm, custom"},
		{"llama.cpp on a configuration", []string{"--config", config, "--runtime", "llama.cpp"}, "loads GGUF files"},
		{"GPUs of 30 bytes", []string{model, "--gpu-memory-total", "30"}, "did you mean 30Gi?"},
		{"GPUs of nonsense", []string{model, "--gpu-memory-total", "much"}, "such as 79.19Gi"},
		{"no GPUs", []string{model, "--gpu-count", "0"}, "1,2,4 or 2-8"},
		{"a range backwards", []string{model, "--gpu-count", "8-2"}, "1,2,4 or 2-8"},
		{"a fraction in percent", []string{"--config", config, "--gpu-memory-utilization", "90"}, "such as 0.9"},
		{"an unknown cache type", []string{model, "--kv-cache-type", "q9"}, "none of"},
		{"an unknown release", []string{"--config", config, "--runtime-version", "banana"}, "such as 0.19.0"},
		{"a build for a release", []string{"--config", config, "--runtime", "vllm", "--runtime-version", "b9849"}, "such as 0.19.0"},
		{"a context of nonsense", []string{model, "-c", "long"}, "such as 32768 or 32k"},
		{"a switch of nonsense", []string{model, "--flash-attention=perhaps"}, "on, off, auto"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := estimate(t, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if out != "" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

func TestEstimateCounts(t *testing.T) {
	for text, want := range map[string][]int{"": nil, "4": {4}, "1,2,4": {1, 2, 4}, "2-4": {2, 3, 4}, "4,1,2-3,1": {1, 2, 3, 4}} {
		o := &estimateOptions{gpuCount: text}
		got, err := o.counts()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: error %v, counts (-want +got):\n%s", text, err, diff)
		}
	}
}
