// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguftest"
	"github.com/berth-dev/berth/pkg/model"
)

// tiny is a model whose memory can be recomputed by hand: 4 layers, 2 key/value heads of 64.
var tiny = gguftest.Model{
	Architecture: "llama", Layers: 4, Hidden: 256, FeedForward: 512, Heads: 4, KVHeads: 2, KeyDim: 64, ValueDim: 64, Vocabulary: 1024,
	Context: 4096, Type: gguftest.Q8_0,
}

func with(m gguftest.Model, change func(*gguftest.Model)) gguftest.Model {
	change(&m)
	return m
}

// one estimates one GPU count and fails unless there is exactly one option.
func one(t testing.TB, m *estimator.Model, s estimator.Settings, gpus int, dev estimator.DeviceInfo) estimator.Option {
	t.Helper()
	r, err := estimator.Estimate(m, s, []int{gpus}, dev)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Options) != 1 {
		t.Fatalf("%d options: %+v", len(r.Options), r.Refused)
	}
	return r.Options[0]
}

func TestLlamaCache(t *testing.T) {
	// One token of one layer: 2 heads × (64 + 64) elements = 256 elements.
	const f16, q8, layers = 512, 272, 4
	llama := func(change func(*estimator.Settings)) estimator.Settings {
		s := estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: 1000, Parallel: 1}
		change(&s)
		return s
	}
	mla := with(tiny, func(m *gguftest.Model) {
		m.Architecture, m.LatentRank, m.RopeDim, m.KeyDim, m.KVHeads = "deepseek2", 64, 32, 96, 1
	})
	hybrid := with(tiny, func(m *gguftest.Model) {
		m.Architecture, m.FullAttentionInterval, m.Inner, m.State, m.Groups, m.ConvKernel = "qwen35", 4, 256, 64, 2, 4
	})
	// Convolution: 3 × (256 + 2×2×64) inputs; state: 256 × 64; float32.
	const state = (3*512 + 256*64) * 4
	tests := []struct {
		name      string
		model     gguftest.Model
		settings  estimator.Settings
		kv, state int64
	}{
		{"cells are padded to 256", tiny, llama(func(*estimator.Settings) {}), 1024 * layers * f16, 0},
		{"quantized keys and values", tiny, llama(func(s *estimator.Settings) { s.KVCacheType = "q8_0" }), 1024 * layers * q8, 0},
		{"quantized keys alone", tiny, llama(func(s *estimator.Settings) { s.KVCacheType, s.KVCacheTypeV = "q8_0", "f16" }), 1024 * layers * (f16 + q8) / 2, 0},
		{"three slots apart: each pads 334 cells to 512", tiny, llama(func(s *estimator.Settings) { s.Parallel = 3 }), 3 * 512 * layers * f16, 0},
		{"three slots sharing one cache", tiny, llama(func(s *estimator.Settings) { s.Parallel, s.KVUnified = 3, estimator.SwitchOn }), 1024 * layers * f16, 0},
		{"Ollama multiplies the context by its slots", tiny, estimator.Settings{Runtime: estimator.RuntimeOllama, ContextLength: 1000, Parallel: 2}, 2 * 1024 * layers * f16, 0},
		{"the cache on the host", tiny, llama(func(s *estimator.Settings) { s.NoKVOffload = true }), 0, 0},
		{
			// gemma2 windows layers 0 and 2: 128 + 512 tokens are 640 → 768 cells.
			"windowed layers keep the window and a micro-batch", with(tiny, func(m *gguftest.Model) { m.Architecture, m.Window = "gemma2", 128 }),
			llama(func(s *estimator.Settings) { s.ContextLength = 4096 }), (2*4096 + 2*768) * f16, 0,
		},
		{
			"unless they are told to keep it all", with(tiny, func(m *gguftest.Model) { m.Architecture, m.Window = "gemma2", 128 }),
			llama(func(s *estimator.Settings) { s.ContextLength, s.SWAFull = 4096, true }), 4 * 4096 * f16, 0,
		},
		{"MLA keeps one vector of 96 per token", mla, llama(func(*estimator.Settings) {}), 1024 * layers * 96 * 2, 0},
		{"MLA before January 2026 kept its 64 values too", mla, llama(func(s *estimator.Settings) { s.Version = "b7000" }), 1024 * layers * (96 + 64) * 2, 0},
		{"hybrids keep a state per slot in three layers of four", hybrid, llama(func(s *estimator.Settings) { s.Parallel, s.KVUnified = 2, estimator.SwitchOn }), 1024 * f16, 2 * 3 * state},
		{"and one more per token to roll back", hybrid, llama(func(s *estimator.Settings) { s.SpeculativeTokens = 3 }), 1024 * f16, 4 * 3 * state},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := one(t, modelOfHeader(t, tt.model.Write()), tt.settings, 1, estimator.DeviceInfo{})
			c := o.Devices[0].Components
			if c.KVCache != tt.kv || c.RecurrentState != tt.state {
				t.Errorf("cache %d and state %d, want %d and %d", c.KVCache, c.RecurrentState, tt.kv, tt.state)
			}
		})
	}
}

func TestLlamaSplit(t *testing.T) {
	m := modelOfHeader(t, tiny.Write())
	s := estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: 1024, Parallel: 1}
	layer, output := m.LayerWeights[0], m.Output+m.OtherWeights
	weights := func(o estimator.Option) []int64 {
		var w []int64
		for _, d := range o.Devices {
			w = append(w, d.Components.Weights)
		}
		return w
	}
	tests := []struct {
		name   string
		change func(*estimator.Settings)
		gpus   int
		want   []int64 // weights, the device that needs most first
		split  []int64
	}{
		{"one GPU takes all but the embedding", func(*estimator.Settings) {}, 1, []int64{4*layer + output}, []int64{5}},
		{"five units on two GPUs: three layers, and one with the output", func(*estimator.Settings) {}, 2, []int64{3 * layer, layer + output}, []int64{3, 2}},
		{"proportions are the user's", func(s *estimator.Settings) { s.TensorSplit = "1,4" }, 2, []int64{3*layer + output, layer}, []int64{4, 1}},
		{"two units offloaded: the output and the last layer", func(s *estimator.Settings) { s.GPULayers = estimator.LayersOf(2) }, 1, []int64{layer + output}, []int64{2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			settings := s
			tt.change(&settings)
			o := one(t, m, settings, tt.gpus, estimator.DeviceInfo{})
			if diff := cmp.Diff(tt.want, weights(o)); diff != "" {
				t.Errorf("weights (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.split, o.LayerSplit); diff != "" {
				t.Errorf("split (-want +got):\n%s", diff)
			}
			if o.Devices[o.OutputDevice].Components.Weights < output {
				t.Errorf("device %d cannot have the output layer", o.OutputDevice)
			}
		})
	}
	tied := modelOfHeader(t, func() []byte { m := with(tiny, func(m *gguftest.Model) { m.Tied = true }); return m.Write() }())
	if o := one(t, tied, s, 1, estimator.DeviceInfo{}); o.Devices[0].Components.Weights != 4*layer+tied.Embedding+tied.OtherWeights {
		t.Error("a tied embedding is not loaded a second time as the output layer")
	}
}

func TestRefusals(t *testing.T) {
	llama8B := parseConfig(t, map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
		"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
	})
	qwen14B := parseConfig(t, map[string]any{
		"architectures": []string{"Qwen3ForCausalLM"}, "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "head_dim": 128,
		"num_key_value_heads": 40, "intermediate_size": 17400, "vocab_size": 151936,
	})
	file := modelOfHeader(t, tiny.Write())
	vllm, llama := estimator.Settings{Runtime: estimator.RuntimeVLLM}, estimator.Settings{Runtime: estimator.RuntimeLlamaCpp}
	tests := []struct {
		name     string
		model    *estimator.Model
		settings estimator.Settings
		gpus     int
		want     string // in the reason; empty if it is an option
	}{
		{"3 does not divide 32 heads", llama8B, vllm, 3, "does not divide the model's 32 attention heads"},
		{"16 is a multiple of the 8 key/value heads", llama8B, vllm, 16, ""},
		{"5 divides heads and widths, not the vocabulary", qwen14B, vllm, 5, "vocabulary of 151936 is not divisible"},
		{"stages must divide the GPUs", llama8B, estimator.Settings{Runtime: estimator.RuntimeVLLM, PipelineParallel: 3}, 4, "does not divide 4 GPUs"},
		{"stages and ranks multiply", llama8B, estimator.Settings{Runtime: estimator.RuntimeVLLM, PipelineParallel: 2}, 4, ""},
		{"layers split over any count", file, llama, 3, ""},
		{"five units do not split over six", file, llama, 6, "5 layers cannot be put on 6 GPUs"},
		{"no split is one GPU", file, estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, SplitMode: "none"}, 2, "uses one GPU"},
		{"nothing is offloaded", file, estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, GPULayers: estimator.LayersOf(0)}, 1, "no layer is offloaded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := estimator.Estimate(tt.model, tt.settings, []int{tt.gpus}, estimator.DeviceInfo{})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == "" && len(r.Options) != 1:
				t.Errorf("refused: %+v", r.Refused)
			case tt.want != "" && (len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Reason, tt.want)):
				t.Errorf("refusals %+v, want one with %q", r.Refused, tt.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	file := modelOfHeader(t, tiny.Write())
	config := parseConfig(t, map[string]any{"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 64, "vocab_size": 64})
	llama := estimator.Settings{Runtime: estimator.RuntimeLlamaCpp}
	tests := []struct {
		name     string
		model    *estimator.Model
		settings estimator.Settings
		want     string
	}{
		{"no model", nil, llama, "there is no model"},
		{"a model of nothing", &estimator.Model{}, llama, "size of the model is not known"},
		{"layers of which nothing is said", &estimator.Model{LayerCount: 2, FileSize: 1}, llama, "says nothing of them"},
		{"an order of unknown kinds", &estimator.Model{LayerCount: 1, FileSize: 1, Layers: make([]estimator.LayerKind, 1), LayerOrder: []int32{3}}, llama, "layer kind 3 of 1"},
		{"safetensors under llama.cpp", config, llama, "loads GGUF files"},
		{"an unknown engine", file, estimator.Settings{Runtime: "tgi"}, `runtime "tgi" is none of`},
		{"an unknown cache type", file, estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, KVCacheType: "q9"}, `KV cache type "q9" is none of`},
		{"a negative context", file, estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: -1}, "context length -1"},
		{"a fraction above one", config, estimator.Settings{Runtime: estimator.RuntimeVLLM, GPUMemoryUtilization: 1_000_001}, "GPU memory utilization"},
		{
			"quantized values without flash attention", file,
			estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, KVCacheTypeV: "q4_0", FlashAttention: estimator.SwitchOff}, "needs flash attention",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := estimator.Estimate(tt.model, tt.settings, []int{1}, estimator.DeviceInfo{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := estimator.Estimate(file, llama, []int{0}, estimator.DeviceInfo{}); err == nil {
		t.Error("no GPU: no error")
	}
}

// TestVLLMFeasibility: a Llama 3.1 8B needs about 20.8 GiB on one GPU.
func TestVLLMFeasibility(t *testing.T) {
	m := parseConfig(t, map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
		"intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072,
	})
	const gib = int64(1) << 30
	tests := []struct {
		name            string
		total           int64
		change          func(*estimator.Settings)
		feasible, tight bool
	}{
		{"an 80 GB GPU holds it by the default fraction", 79 * gib, func(*estimator.Settings) {}, true, false},
		{"a fraction of a fifth of it does not", 79 * gib, func(s *estimator.Settings) { s.GPUMemoryUtilization = 200_000 }, false, false},
		{"all of it leaves nothing for CUDA", 79 * gib, func(s *estimator.Settings) { s.GPUMemoryUtilization = 1_000_000 }, false, false},
		{"nearly all of it is tight", 79 * gib, func(s *estimator.Settings) { s.GPUMemoryUtilization = 980_000 }, true, true},
		{"a 24 GB GPU holds it when the fraction follows the booking", 23 * gib, func(s *estimator.Settings) { s.UtilizationHandedOver = true }, true, false},
		{"a 16 GB GPU does not", 15 * gib, func(s *estimator.Settings) { s.UtilizationHandedOver = true }, false, false},
		{"a context of 128k does not fit 24 GB", 23 * gib, func(s *estimator.Settings) { s.UtilizationHandedOver, s.ContextLength = true, 131072 }, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := estimator.Settings{Runtime: estimator.RuntimeVLLM, ContextLength: 8192}
			tt.change(&s)
			o := one(t, m, s, 1, estimator.DeviceInfo{Total: tt.total})
			if o.Feasible != tt.feasible || o.Tight != tt.tight {
				t.Errorf("feasible %v, tight %v, want %v and %v: %s (%+v)", o.Feasible, o.Tight, tt.feasible, tt.tight, o.Reason, o.Devices[0])
			}
			if (o.Reason == "") != (tt.feasible && !tt.tight) {
				t.Errorf("reason %q", o.Reason)
			}
		})
	}
}

// TestEstimatesNeverShrink: more context, more sequences, a wider cache never need less memory, and every component
// adds up.
func TestEstimatesNeverShrink(t *testing.T) {
	models := map[string]*estimator.Model{
		"llama.cpp": modelOfHeader(t, qwen35x27B.Write()),
		"vllm":      parseConfig(t, map[string]any{"architectures": []string{"Gemma3ForCausalLM"}, "hidden_size": 2560, "num_hidden_layers": 34, "intermediate_size": 10240, "sliding_window": 1024}),
	}
	for runtime, m := range models {
		base := estimator.Settings{Runtime: estimator.Runtime(runtime), ContextLength: 4096, Parallel: 1, MaxNumSeqs: 64}
		before := one(t, m, base, 2, estimator.DeviceInfo{})
		for name, grow := range map[string]func(*estimator.Settings){
			"context":   func(s *estimator.Settings) { s.ContextLength = 65536 },
			"parallel":  func(s *estimator.Settings) { s.Parallel = 8 },
			"cache":     func(s *estimator.Settings) { s.KVCacheType = "f32" },
			"sequences": func(s *estimator.Settings) { s.MaxNumSeqs, s.MicroBatchSize = 512, 1024 },
		} {
			s := base
			grow(&s)
			after := one(t, m, s, 2, estimator.DeviceInfo{})
			for i := range after.Devices {
				if after.Devices[i].Total < before.Devices[i].Total {
					t.Errorf("%s: more %s needs %d instead of %d bytes", runtime, name, after.Devices[i].Total, before.Devices[i].Total)
				}
				if sum := after.Devices[i].Components.Sum(); sum != after.Devices[i].Total {
					t.Errorf("%s: components of %d make a total of %d", runtime, sum, after.Devices[i].Total)
				}
				if i > 0 && after.Devices[i].Total > after.Devices[i-1].Total {
					t.Errorf("%s: devices are not largest first", runtime)
				}
			}
		}
	}
}

// TestFileSizeAlone: a model of which only the size is known takes all of it, never nothing.
func TestFileSizeAlone(t *testing.T) {
	const size = 74e9
	m := &estimator.Model{
		Format: estimator.FormatGGUF, Architecture: "of-next-year", UnknownArchitecture: true, WeightsSource: estimator.WeightsFromFileSize,
		FileSize: size, HiddenSize: 8192, LayerCount: 80, Layers: []estimator.LayerKind{{Kind: estimator.LayerAttention, Count: 80, Heads: 64, KVHeads: 64, KeyDim: 128, ValueDim: 128}},
	}
	for _, runtime := range []estimator.Runtime{estimator.RuntimeOllama, estimator.RuntimeVLLM, estimator.RuntimeSGLang, estimator.RuntimeTensorRT} {
		r, err := estimator.Estimate(m, estimator.Settings{Runtime: runtime, ContextLength: 2048}, []int{1}, estimator.DeviceInfo{Total: 10 << 30})
		if err != nil {
			t.Fatal(err)
		}
		if o := r.Options[0]; o.Devices[0].Total < size || o.Feasible || !r.Fallback {
			t.Errorf("%s: %d bytes, feasible %v, fallback %v", runtime, o.Devices[0].Total, o.Feasible, r.Fallback)
		}
	}
}

// TestArithmeticSaturates: dimensions near the largest number make a huge estimate, not a small or negative one.
func TestArithmeticSaturates(t *testing.T) {
	huge := int64(math.MaxInt64)
	m := &estimator.Model{
		Format: estimator.FormatGGUF, Architecture: "llama", WeightsSource: estimator.WeightsFromTensors, HiddenSize: huge, FeedForward: huge, VocabularySize: huge,
		LayerCount: 2, Embedding: huge, Output: huge, OtherWeights: huge, LayerWeights: []int64{huge, huge}, ExpertWeights: []int64{huge, huge}, FileSize: huge,
		Experts: &estimator.Experts{Count: huge, Used: huge, FeedForward: huge, SharedFeedForward: huge},
		Vision:  &estimator.Vision{Sharded: huge, HiddenSize: huge, FeedForward: huge, Heads: huge, Layers: huge, MaxPatches: huge},
		Layers: []estimator.LayerKind{{
			Kind: estimator.LayerAttention, Count: 2, Heads: huge, KVHeads: huge, KeyDim: huge, ValueDim: huge, IndexerDim: huge, ConvState: huge, SSMState: huge, RecurrentWidth: huge,
		}},
	}
	for _, runtime := range model.Runtimes {
		s := estimator.Settings{Runtime: runtime, ContextLength: 1 << 30, Parallel: 1 << 16}
		o := one(t, m, s, 1, estimator.DeviceInfo{Total: 80 << 30})
		if o.Feasible || o.Devices[0].Total < huge/2 || o.Devices[0].Components.Compute < 0 {
			t.Errorf("%s: feasible %v with %+v", runtime, o.Feasible, o.Devices[0])
		}
	}
}

// FuzzEstimate looks for panics and negative or wrapped sums: a Model comes from an API object that anybody with the
// right to write profiles may have made.
func FuzzEstimate(f *testing.F) {
	for _, m := range []*estimator.Model{
		modelOfHeader(f, glm52.Write()), modelOfHeader(f, qwen35x27B.Write()), modelOfHeader(f, gptOSS120B.Write()),
		parseConfig(f, map[string]any{"architectures": []string{"DeepseekV4ForCausalLM"}, "hidden_size": 64, "num_hidden_layers": 3, "head_dim": 8, "compress_ratios": []int{0, 4, 128}, "sliding_window": 8}),
	} {
		data, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, int64(8192), int64(4), "q8_0", "layer", "1,2", uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, context, parallel int64, cache, split, proportions string, flags uint8) {
		m := &estimator.Model{}
		if json.Unmarshal(data, m) != nil {
			return
		}
		s := estimator.Settings{
			ContextLength: context, Parallel: parallel, KVCacheType: cache, SplitMode: split, TensorSplit: proportions, SpeculativeTokens: int64(flags & 3),
			ExpertsOnCPU: flags&4 != 0, EnforceEager: flags&8 != 0, GPULayers: estimator.Layers(flags >> 4), PipelineParallel: int64(flags >> 6), DataParallel: int64(flags >> 5 & 3), DPAttention: flags&16 != 0,
		}
		for _, s.Runtime = range append([]estimator.Runtime{"", "lmdeploy"}, model.Runtimes...) {
			r, err := estimator.Estimate(m, s, []int{1, 2, 8}, estimator.DeviceInfo{Total: 80 << 30})
			if err != nil {
				continue
			}
			for _, o := range r.Options {
				for i, d := range o.Devices {
					if d.Total <= 0 || d.Total != d.Components.Sum() || i > 0 && d.Total > o.Devices[i-1].Total {
						t.Errorf("%s on %d GPUs: device %d of %+v", s.Runtime, o.GPUCount, i, o.Devices)
					}
				}
			}
		}
	})
}

func TestDeepCopySharesNothing(t *testing.T) {
	m := modelOfHeader(t, glm52.Write())
	m.Vision = &estimator.Vision{Heads: 1}
	before, _ := json.Marshal(m)
	c := m.DeepCopy()
	if diff := cmp.Diff(m, c); diff != "" {
		t.Fatalf("copy (-want +got):\n%s", diff)
	}
	c.Layers[0].KVHeads, c.LayerWeights[0], c.ExpertWeights[0], c.Experts.Used, c.Vision.Heads = -1, -1, -1, -1, -1
	c.LayerOrder[0] = -1
	if after, _ := json.Marshal(m); string(after) != string(before) {
		t.Error("changing a copy changes the model")
	}
}

func BenchmarkEstimate(b *testing.B) {
	vllm := parseConfig(b, map[string]any{
		"architectures": []string{"Qwen3_5MoeForConditionalGeneration"}, "hidden_size": 4096, "num_hidden_layers": 100, "num_attention_heads": 32, "num_key_value_heads": 4,
		"head_dim": 256, "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 64, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
		"num_experts": 256, "moe_intermediate_size": 1024, "vocab_size": 248320,
	})
	for _, bb := range []struct {
		name     string
		model    *estimator.Model
		settings estimator.Settings
	}{
		{"vllm hybrid of 100 layers", vllm, estimator.Settings{Runtime: estimator.RuntimeVLLM}},
		{"llama.cpp mixture of 78 layers", modelOfHeader(b, glm52.Write()), estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: 32768}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			counts := []int{8}
			for b.Loop() {
				if _, err := estimator.Estimate(bb.model, bb.settings, counts, estimator.DeviceInfo{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
