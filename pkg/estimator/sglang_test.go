// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"strings"
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
)

const (
	oneMiB = int64(1) << 20
	oneGiB = int64(1) << 30
)

func sglang(change func(*estimator.Settings)) estimator.Settings {
	s := estimator.Settings{Runtime: estimator.RuntimeSGLang, ContextLength: 8192}
	if change != nil {
		change(&s)
	}
	return s
}

var llama8B = map[string]any{
	"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
	"intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}

// TestSGLangsDefaultFraction: (memory − reserve) / memory, in MiB, with the reserve of server_args.py: 512, 1.5 for each
// token of a prefill, 2 for each of the largest batch with a graph, 128 for each GPU.
func TestSGLangsDefaultFraction(t *testing.T) {
	share := estimator.EngineOf(estimator.RuntimeSGLang).Share
	for _, tt := range []struct {
		name   string
		memory int64 // MiB
		gpus   int
		want   int64
	}{
		{"a T4: 512 + 2048×1.5 + 8×2 + 128 = 3728", 15360, 1, 757_000},
		{"a 4090: 512 + 2048×1.5 + 24×2 + 128 = 3760", 24564, 1, 847_000},
		{"an L40S: 512 + 4096×1.5 + 32×2 + 128 = 6848", 46068, 1, 851_000},
		{"an H100: 512 + 8192×1.5 + 256×2 + 128 = 13440", 81559, 1, 835_000},
		{"eight H100: 512 + 8192×1.5 + 512×2 + 1024 = 14848", 81559, 8, 818_000},
		{"a B200: 512 + 16384×1.5 + 512×2 + 128 = 26240", 183359, 1, 857_000},
		{"a GPU that is not known", 0, 1, 880_000},
	} {
		if got := share.Default(&estimator.Settings{}, estimator.DeviceInfo{Total: tt.memory * oneMiB}, tt.gpus); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestSGLangAgainstPublicLogs: what servers said of themselves.
func TestSGLangAgainstPublicLogs(t *testing.T) {
	gemma3 := map[string]any{
		"architectures": []string{"Gemma3ForCausalLM"}, "hidden_size": 2560, "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4,
		"head_dim": 256, "intermediate_size": 10240, "vocab_size": 262208, "max_position_embeddings": 131072, "torch_dtype": "bfloat16", "sliding_window": 1024,
		"sliding_window_pattern": 6, "tie_word_embeddings": true,
	}
	qwen235B := map[string]any{
		"architectures": []string{"Qwen3MoeForCausalLM"}, "hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4,
		"head_dim": 128, "moe_intermediate_size": 1536, "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936, "max_position_embeddings": 40960,
		"torch_dtype": "bfloat16",
	}
	for _, tt := range []struct {
		name, source string
		config       map[string]any
		gpus         int
		tokens       int64
		cache        float64 // GiB, keys and values together
	}{
		{"gemma-3-4b on an H200", "https://github.com/sgl-project/sglang/pull/4826", gemma3, 1, 834615, 54.12 + 54.12},
		{"Qwen3-235B-A22B-FP8 on four H100", "https://github.com/vllm-project/vllm/issues/21348", qwen235B, 4, 367404, 8.23 + 8.23},
	} {
		o := one(t, parseConfig(t, tt.config), sglang(func(s *estimator.Settings) { s.MaxTotalTokens = tt.tokens }), tt.gpus, estimator.DeviceInfo{})
		got := float64(o.Devices[0].Components.KVCache) / float64(oneGiB)
		if got < tt.cache-0.02 || got > tt.cache+0.02 { // the log has two digits for each half
			t.Errorf("%s (%s): a cache of %.2f GiB for %d tokens, measured %.2f", tt.name, tt.source, got, tt.tokens, tt.cache)
		}
	}
	// gemma-3-4b, the same log: 14.61 GiB were left when the pool was made, 9.72 when the graphs were.
	o := one(t, parseConfig(t, gemma3), sglang(nil), 1, estimator.DeviceInfo{Total: 143771 * oneMiB, Name: "NVIDIA H200"})
	if compute := o.Devices[0].Components.Compute; compute < 489*oneGiB/100 {
		t.Errorf("gemma-3-4b: %.2f GiB beside the fraction, measured 4.89 before the first request", float64(compute)/float64(oneGiB))
	}
}

// TestWhatSGLangsSettingsMove says of each setting what it must change.
func TestWhatSGLangsSettingsMove(t *testing.T) {
	m := parseConfig(t, llama8B)
	dev := estimator.DeviceInfo{Total: 81559 * oneMiB, Name: "NVIDIA H100 80GB HBM3"}
	base := one(t, m, sglang(nil), 1, dev).Devices[0].Components
	for name, tt := range map[string]struct {
		change func(*estimator.Settings)
		holds  func(estimator.Components) bool
	}{
		"a context twice as long has a cache twice as large": {
			func(s *estimator.Settings) { s.ContextLength = 16384 },
			func(c estimator.Components) bool { return c.KVCache == 2*base.KVCache },
		},
		"a cache of FP8 is half as large": {
			func(s *estimator.Settings) { s.KVCacheType = "fp8_e4m3" },
			func(c estimator.Components) bool { return 2*c.KVCache == base.KVCache },
		},
		"a smaller prefill computes with less": {
			func(s *estimator.Settings) { s.MaxNumBatchedTokens = 2048 },
			func(c estimator.Components) bool { return c.Compute < base.Compute },
		},
		"no graphs take no memory": {
			func(s *estimator.Settings) { s.EnforceEager = true },
			func(c estimator.Components) bool { return c.Compute < base.Compute-oneGiB },
		},
		"fewer requests have a smaller table": {
			func(s *estimator.Settings) { s.MaxNumSeqs = 256 },
			func(c estimator.Components) bool { return c.Compute <= base.Compute-(2048-256)*8192*4 },
		},
		"weights in FP8 are nearly half": {
			func(s *estimator.Settings) { s.Quantization = "fp8" },
			func(c estimator.Components) bool { return c.Weights < base.Weights*6/10 },
		},
	} {
		if c := one(t, m, sglang(tt.change), 1, dev).Devices[0].Components; !tt.holds(c) {
			t.Errorf("%s: %+v, without it %+v", name, c, base)
		}
	}
	if o := one(t, m, sglang(func(s *estimator.Settings) { s.DataParallel = 2 }), 2, dev); o.TensorParallelSize != 1 || o.Devices[0].Components.Weights != base.Weights {
		t.Errorf("two copies of the model on two GPUs are cut: %+v", o)
	}
	shared := one(t, m, sglang(func(s *estimator.Settings) { s.DataParallel, s.DPAttention = 2, true }), 2, dev)
	if c := shared.Devices[0].Components; shared.TensorParallelSize != 2 || c.KVCache != base.KVCache {
		t.Errorf("with data-parallel attention each of two GPUs keeps whole caches, got %+v", shared)
	}
	if o := one(t, m, sglang(func(s *estimator.Settings) { s.ContextLength = 262144 }), 1, dev); o.Feasible || !strings.Contains(o.Reason, "refuses to start") {
		t.Errorf("a context beyond the model's: feasible %v, %q", o.Feasible, o.Reason)
	}
	if o := one(t, m, sglang(func(s *estimator.Settings) { s.GPUMemoryUtilization = 150_000 }), 1, dev); o.Feasible {
		t.Error("weights of 15 GiB are said to fit 0.15 of 79.6 GiB")
	}
}
