// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
)

// mib returns bytes as whole MiB.
func mib(n int64) int64 { return n / mebibyte }

// eight is a model of the dimensions of Llama 3.1 8B: 32 layers, 32 heads, 8 of keys and values, all of 128.
func eight(change ...func(*estimator.Model)) *estimator.Model {
	m := &estimator.Model{
		Format: estimator.FormatGGUF, Architecture: "llama", WeightsSource: estimator.WeightsFromTensors,
		HiddenSize: 4096, FeedForward: 14336, VocabularySize: 128256, LayerCount: 32, ContextLength: 131072,
		Embedding: 500 * mebibyte, Output: 400 * mebibyte, LargestMatrix: 48 * mebibyte,
		Layers: []estimator.LayerKind{{Kind: estimator.LayerAttention, Count: 32, Heads: 32, KVHeads: 8, KeyDim: 128, ValueDim: 128}},
	}
	m.Heads, m.KVHeads = 32, 8
	for range m.LayerCount {
		m.LayerWeights = append(m.LayerWeights, 128*mebibyte)
		m.LayerOrder = append(m.LayerOrder, 0)
	}
	for _, f := range change {
		f(m)
	}
	return m
}

// second makes the layers in places the model's second kind.
func second(k estimator.LayerKind, places ...int) func(*estimator.Model) {
	return func(m *estimator.Model) {
		k.Count = int32(len(places))
		m.Layers[0].Count -= k.Count
		m.Layers = append(m.Layers, k)
		for _, i := range places {
			m.LayerOrder[i] = 1
		}
	}
}

// at32k are settings of one slot of 32768 tokens, micro-batches of 512.
func at32k(change ...func(*estimator.Settings)) estimator.Settings {
	s := estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: 32768, Parallel: 1, MicroBatchSize: 512}
	for _, f := range change {
		f(&s)
	}
	return s
}

func estimate(t *testing.T, m *estimator.Model, s estimator.Settings, gpus int) (estimator.Option, []string) {
	t.Helper()
	r, err := estimator.Estimate(m, s, []int{gpus}, estimator.DeviceInfo{})
	if err != nil || len(r.Options) != 1 {
		t.Fatalf("%v, %+v", err, r.Refused)
	}
	return r.Options[0], r.Notes
}

// parts are the components of the first device in MiB, the CUDA context left out.
type parts struct{ Weights, Cache, Compute int64 }

func partsOf(d *estimator.Device) parts {
	c := &d.Components
	return parts{mib(c.Weights), mib(c.KVCache + c.RecurrentState), mib(c.Compute)}
}

// TestWhatASettingCosts compares the first device with and without one setting, or with one property of a model.
func TestWhatASettingCosts(t *testing.T) {
	type (
		model    = *estimator.Model
		settings = estimator.Settings
	)
	cacheType := func(k, v string) func(*settings) {
		return func(s *settings) { s.KVCacheType, s.KVCacheTypeV = k, v }
	}
	noFlash := func(s *settings) { s.FlashAttention = estimator.SwitchOff }
	window := estimator.LayerKind{Kind: estimator.LayerSlidingWindow, Heads: 32, KVHeads: 8, KeyDim: 128, ValueDim: 128, Window: 1024}
	wide := estimator.LayerKind{Kind: estimator.LayerSlidingWindow, Heads: 32, KVHeads: 16, KeyDim: 128, ValueDim: 128, Window: 1024}
	parallel := func(m model) { m.ParallelAttention = true }
	mamba := estimator.LayerKind{Kind: estimator.LayerRecurrent, RecurrentWidth: 4096, SSMState: 1024, ProjectionWidth: 10576}
	draft := func(cached bool) func(model) {
		return func(m model) {
			m.Draft = &estimator.Draft{Layers: 1, Weights: estimator.PlacedWeights{Sharded: 200 * mebibyte}, Cached: cached}
		}
	}
	experts := func(m model) {
		m.Experts = &estimator.Experts{Count: 8, Used: 2, FeedForward: 1024, LargestMatrix: 300 * mebibyte}
		m.ExpertWeights = make([]int64, m.LayerCount)
		for i := range m.ExpertWeights {
			m.ExpertWeights[i] = 800 * mebibyte
		}
	}
	for _, tt := range []struct {
		name          string
		before, after model
		from, to      settings
		gpus          int
		want          parts
	}{
		{
			// 32768 cells × 32 heads × 512 tokens × 4 B = 2048, masks of 4 B instead of 2 (+32), and transposed values
			// 32768 × 8 × 128 × 2 B = 64; the moment of attention (3 × 4096 + 2048 + 4096 + rotation 6144 + 3 × 4096
			// elements × 512 × 4 B = 72) replaces that of the feed-forward layer (3 × 14336 + 4 × 4096 → 116). Keys of
			// 1.0625 B instead of 2 over 32 layers: 960 less.
			"keys alone quantized turn flash attention off",
			eight(), eight(), at32k(), at32k(cacheType("q8_0", "f16")), 1, parts{0, -960, 2048 + 32 + 64 + 72 - 116},
		},
		{"quantized values force it on, and the host attends: no mask of 32 MiB", eight(), eight(), at32k(), at32k(cacheType("f16", "q8_0")), 1, parts{0, -960, -32}},
		{
			// 2 × 64 MiB of float16 beside 60 MiB of rows, instead of 116.
			"a bfloat16 cache is unpacked",
			eight(), eight(), at32k(), at32k(cacheType("bf16", "bf16")), 1, parts{0, 0, 128 + 60 - 116},
		},
		{
			// The whole unpacked layer, 128 MiB, stays during the feed-forward part.
			"parallel attention keeps the unpacked cache",
			eight(parallel), eight(parallel), at32k(), at32k(cacheType("q8_0", "q8_0")), 1, parts{0, -1920, 128},
		},
		{"without offload one layer's keys and values are copied", eight(), eight(), at32k(), at32k(func(s *settings) { s.NoKVOffload = true }), 1, parts{0, -4096, 128 + 60 - 116}},
		{
			// A window keeps pad256(1024 + 512) = 1536 cells of the 32768: a mask of 1.5 MiB. With --swa-full it has one
			// of 32, and 31 layers keep 31232 cells × 4096 B more.
			"--swa-full masks the whole context",
			eight(second(window, 0)), eight(second(window, 0)), at32k(), at32k(func(s *settings) { s.SWAFull = true }), 1, parts{0, 122, 30},
		},
		{
			// The values of 31 layers of 8 heads are padded to 16: 31 × 32768 × 1024 × 2 B.
			"without flash attention values are as wide as the widest",
			eight(second(window, 0)), eight(second(wide, 0)), at32k(noFlash), at32k(noFlash), 1, parts{0, 31*64 + 6, 0},
		},
		{
			// 512 × (128256 + 4096) × 4 B = 258.5 instead of the 116 of the feed-forward layer.
			"for embeddings every token has logits",
			eight(), eight(), at32k(), at32k(func(s *settings) { s.Embeddings = true }), 1, parts{0, 0, 258 - 116},
		},
		{"an unused prediction layer is not loaded", eight(), eight(draft(false)), at32k(), at32k(), 1, parts{}},
		{"one that the cache does not leave out has a row", eight(), eight(draft(true)), at32k(), at32k(), 1, parts{0, 128, 0}},
		{
			// Its own context: a mask of 32, three rows of 4096 × 512 × 4 B = 8, a feed-forward moment of 116.
			"a used one has a cache and a buffer of its own",
			eight(draft(false)), eight(draft(false)), at32k(), at32k(func(s *settings) { s.SpeculativeTokens = 3 }), 1, parts{200, 128, 32 + 24 + 116},
		},
		{
			// 800 MiB of each layer stay on the host; one matrix of 300 comes at a time.
			"experts on the host are staged matrix by matrix",
			eight(experts), eight(experts), at32k(), at32k(func(s *settings) { s.ExpertsOnCPU = true }), 1, parts{-32 * 800, 0, 300},
		},
		{
			// Masks of 32 and embeddings of 8 once instead of four times.
			"nothing is copied four times with experts on the host",
			eight(experts), eight(experts), at32k(), at32k(func(s *settings) { s.ExpertsOnCPU = true }), 2, parts{-17 * 800, 0, 300 - 3*40},
		},
		{
			// Mamba 2 on the second of two GPUs: 4 × 512 × 10576 × 4 B = 82.6 MiB; the state of 4 KiB is nothing.
			"the projection of a recurrent layer crosses four times",
			eight(func(m model) { m.LayerWeights[31] += 9000 * mebibyte }), eight(second(mamba, 20), func(m model) { m.LayerWeights[31] += 9000 * mebibyte }),
			at32k(), at32k(), 2, parts{0, -128, 82},
		},
		{
			// Tied: the output of 500 MiB is whole on each GPU, the layers are halved.
			"split mode tensor mirrors a tied output",
			eight(), eight(func(m model) { m.Output = 0 }), at32k(func(s *settings) { s.SplitMode = "tensor" }), at32k(func(s *settings) { s.SplitMode = "tensor" }), 2, parts{300, 0, 0},
		},
		{"… and shared experts, routers and norms", eight(), eight(func(m model) { m.MirroredWeights = 320 * mebibyte }), at32k(func(s *settings) { s.SplitMode = "tensor" }), at32k(func(s *settings) { s.SplitMode = "tensor" }), 2, parts{160, 0, 0}},
		{"an encoder has no output layer", eight(func(m model) { m.Output = 0 }), eight(func(m model) { m.Output, m.NoOutput = 0, true }), at32k(), at32k(), 1, parts{-500, 0, 0}},
		{"a diffusion model caches nothing, and masks the batch", eight(), eight(func(m model) { m.Cacheless = true }), at32k(), at32k(), 1, parts{0, -4096, -32}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := estimate(t, tt.before, tt.from, tt.gpus)
			after, _ := estimate(t, tt.after, tt.to, tt.gpus)
			b, a := partsOf(&before.Devices[0]), partsOf(&after.Devices[0])
			got := parts{a.Weights - b.Weights, a.Cache - b.Cache, a.Compute - b.Compute}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(x, y int64) bool { return max(x-y, y-x) <= 1 })); diff != "" {
				t.Errorf("MiB (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSharedCacheIsCopied: the last layers of Gemma 3n and 4 read the cache of an earlier one. On another GPU each of
// them has four copies of all of it.
func TestSharedCacheIsCopied(t *testing.T) {
	shared := estimator.LayerKind{Kind: estimator.LayerStateless, SharesCacheOf: 16} // that of layer 15
	plain, _ := estimate(t, eight(), at32k(), 4)
	m := eight(second(shared, 28, 29))
	m.LayerWeights[31] += 9000 * mebibyte // so that the last GPU is the first listed
	got, _ := estimate(t, m, at32k(), 4)
	// Layer 15 caches 128 MiB: two layers × 4 copies.
	if want, got := partsOf(&plain.Devices[0]).Compute+2*4*128, partsOf(&got.Devices[0]).Compute; got != want {
		t.Errorf("compute %d MiB, want %d", got, want)
	}
}

// TestFlashAttentionTurnsItselfOff: by the kernels of the CUDA backend as it is built by default.
func TestFlashAttentionTurnsItselfOff(t *testing.T) {
	attention := func(heads, kvHeads, key, value int64) estimator.LayerKind {
		return estimator.LayerKind{Kind: estimator.LayerAttention, Count: 32, Heads: heads, KVHeads: kvHeads, KeyDim: key, ValueDim: value}
	}
	latent := func(heads, key, value int64) estimator.LayerKind {
		return estimator.LayerKind{Kind: estimator.LayerLatent, Count: 32, Heads: heads, KVHeads: heads, KeyDim: 192, ValueDim: 128, LatentDim: key, LatentValueDim: value}
	}
	state := estimator.LayerKind{Kind: estimator.LayerRecurrent, RecurrentWidth: 4096, SSMState: 1024}
	for _, tt := range []struct {
		name     string
		kind     estimator.LayerKind
		change   func(*estimator.Model)
		settings estimator.Settings
		off      bool
	}{
		{"heads of 128", attention(32, 8, 128, 128), nil, at32k(), false},
		{"heads of 160 (StableLM 2 12B)", attention(32, 8, 160, 160), nil, at32k(), true},
		{"keys of 96 and values of 64 (MiniCPM3)", attention(40, 40, 96, 64), nil, at32k(), true},
		{"192 and 128, eight heads to one (MiMo V2)", attention(64, 8, 192, 128), nil, at32k(), false},
		{"192 and 128, each head its own (DeepSeek V2 before its layout)", attention(16, 16, 192, 128), nil, at32k(), true},
		{"320 and 256, 32 heads to one (Mistral Small 4)", latent(32, 320, 256), nil, at32k(), false},
		{"512, two heads to one (Gemma 4)", attention(8, 4, 512, 512), nil, at32k(), false},
		{"512, each head its own", attention(8, 8, 512, 512), nil, at32k(), true},
		{"576 and 512 (MLA)", latent(128, 576, 512), nil, at32k(), false},
		{"a cache of q5_1 keys and values forces it on", attention(32, 8, 128, 128), nil, at32k(func(s *estimator.Settings) { s.KVCacheType = "q5_1" }), false},
		{"keys of q5_1 alone", attention(32, 8, 128, 128), nil, at32k(func(s *estimator.Settings) { s.KVCacheType, s.KVCacheTypeV = "q5_1", "f16" }), true},
		{"forced on", attention(40, 40, 96, 64), nil, at32k(func(s *estimator.Settings) { s.FlashAttention = estimator.SwitchOn }), false},
		{
			"a hybrid whose last layer on the host attends",
			attention(32, 8, 128, 128), second(state, 0, 1, 2, 3, 5, 6), at32k(func(s *estimator.Settings) { s.GPULayers = estimator.LayersOf(28) }), true,
		},
		{
			"a hybrid whose last layer on the host has a state",
			attention(32, 8, 128, 128), second(state, 0, 1, 2, 3, 5, 6), at32k(func(s *estimator.Settings) { s.GPULayers = estimator.LayersOf(29) }), false,
		},
		{
			"a layer that reads a cache on the host",
			attention(32, 8, 128, 128), second(estimator.LayerKind{Kind: estimator.LayerStateless, SharesCacheOf: 16}, 30, 31),
			at32k(func(s *estimator.Settings) { s.GPULayers = estimator.LayersOf(10) }), true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := eight(func(m *estimator.Model) { m.Layers[0] = tt.kind })
			if tt.change != nil {
				tt.change(m)
			}
			_, notes := estimate(t, m, tt.settings, 1)
			off := false
			for _, n := range notes {
				off = off || strings.HasPrefix(n, "flash attention turns itself off")
			}
			if off != tt.off {
				t.Errorf("flash attention turns itself off: %t, want %t", off, tt.off)
			}
		})
	}
}

// TestSparseCaches: the caches of DeepSeek V4 and MiniMax M3, as llama.cpp b10470 makes them.
func TestSparseCaches(t *testing.T) {
	v4 := func(ratio, indexer int64) estimator.LayerKind {
		return estimator.LayerKind{
			Kind: estimator.LayerLatent, Heads: 64, KVHeads: 64, KeyDim: 512, ValueDim: 512, LatentDim: 512, LatentValueDim: 512,
			Window: 128, CompressRatio: ratio, IndexerDim: indexer, IndexerHeads: 64 * min(indexer, 1),
		}
	}
	m3 := estimator.LayerKind{
		Kind: estimator.LayerAttention, Heads: 64, KVHeads: 4, KeyDim: 128, ValueDim: 128, IndexerDim: 256, IndexerHeads: 4,
	}
	slots := at32k(func(s *estimator.Settings) { s.ContextLength, s.Parallel = 4096, 0 })
	for _, tt := range []struct {
		name     string
		kind     estimator.LayerKind
		settings estimator.Settings
		want     int64 // KiB a layer
	}{
		// pad256(128 + 512) = 768 cells of 512 × 2 B.
		{"DeepSeek V4, a window alone", v4(0, 0), at32k(), 768},
		// … and 32768 / 4 = 8192 cells of (512 + 128) × 2 B.
		{"DeepSeek V4, one for four tokens, with an indexer", v4(4, 128), at32k(), 768 + 8192*5/4},
		// … and 32768 / 128 = 256 cells.
		{"DeepSeek V4, one for 128 tokens", v4(128, 0), at32k(), 768 + 256},
		// Four slots with one cache: 4 × (768 + 4096 / 4).
		{"DeepSeek V4, a cache for each slot", v4(4, 0), slots, 4 * (768 + 1024)},
		// 32768 cells × (4 × 256 + 256) × 2 B.
		{"MiniMax M3, keys and values of the indexer", m3, at32k(), 32768 * 5 / 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.kind.Count = 32
			o, _ := estimate(t, eight(func(m *estimator.Model) { m.Layers[0] = tt.kind }), tt.settings, 1)
			if got := o.Devices[0].Components.KVCache / 32 / 1024; got != tt.want {
				t.Errorf("%d KiB a layer, want %d", got, tt.want)
			}
		})
	}
}

// TestCacheTypesThatLlamaCppRefuses: it does not start with them.
func TestCacheTypesThatLlamaCppRefuses(t *testing.T) {
	eighty := func(m *estimator.Model) { m.Layers[0].KeyDim, m.Layers[0].ValueDim = 80, 80 }
	latent := func(m *estimator.Model) {
		m.Layers[0].Kind, m.Layers[0].LatentDim, m.Layers[0].LatentValueDim = estimator.LayerLatent, 576, 512
	}
	for _, tt := range []struct {
		name, keys, values string
		change             func(*estimator.Model)
		want               string
	}{
		{"blocks of 32 in heads of 80 (phi-2)", "q8_0", "q8_0", eighty, "blocks of 32 do not divide"},
		{"values alone", "f16", "q4_0", eighty, "values of q4_0"},
		{"float16 in heads of 80", "f16", "f16", eighty, ""},
		{"two types of latents", "q8_0", "f16", latent, "one type for both"},
		{"one type of latents", "q8_0", "q8_0", latent, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := at32k(func(s *estimator.Settings) { s.KVCacheType, s.KVCacheTypeV = tt.keys, tt.values })
			_, err := estimator.Estimate(eight(tt.change), s, []int{1}, estimator.DeviceInfo{})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
