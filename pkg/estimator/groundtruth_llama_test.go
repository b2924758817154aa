// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	parser "github.com/gpustack/gguf-parser-go"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguf"
)

// modelOfHeader reads a header as the readers do.
func modelOfHeader(t testing.TB, header []byte) *estimator.Model {
	t.Helper()
	h, err := gguf.ReadHeader(bytes.NewReader(header), int64(len(header)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Model()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// llamaSettings are the settings of a record.
func llamaSettings(r *record) (estimator.Settings, []int) {
	s := r.Settings
	out := estimator.Settings{
		Runtime: estimator.RuntimeLlamaCpp, ContextLength: int64(number(s, "ctx")), Parallel: int64(max(number(s, "parallel"), 1)),
		BatchSize: int64(number(s, "batch")), MicroBatchSize: int64(number(s, "ubatch")),
		KVCacheType: firstWord(word(s, "cache_type_k")), KVCacheTypeV: firstWord(word(s, "cache_type_v")),
		SplitMode: word(s, "split_mode"),
	}
	if out.MicroBatchSize == 0 {
		out.MicroBatchSize = 512
	}
	if out.KVCacheTypeV == "" {
		out.KVCacheTypeV = out.KVCacheType
	}
	if r.Runtime == "ollama" {
		out.Runtime = estimator.RuntimeOllama
		// The context of the records is that of all slots; Ollama is told that of one.
		out.ContextLength /= out.Parallel
	}
	if fa, ok := s["flash_attn"].(bool); ok && !fa {
		out.FlashAttention = estimator.SwitchOff
	}
	if unified, ok := s["kv_unified"].(bool); ok && unified {
		out.KVUnified = estimator.SwitchOn
	}
	if n := number(s, "gpu_layers"); n > 0 {
		out.GPULayers = estimator.LayersOf(int64(n))
	}
	if on, ok := s["experts_on_cpu"]; ok && on != false {
		out.ExpertsOnCPU = true
	}
	return out, []int{int(max(number(s, "gpus"), 1))}
}

func firstWord(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return ""
	}
	return f[0]
}

// measuredComponents are the figures of a record by component, summed over devices where the estimate cannot know
// how they were split.
type measuredComponents struct{ model, kv, state, compute, total float64 }

func componentsOf(r *record) (sum, largest measuredComponents) {
	devices, _ := r.Measured["device"].(map[string]any)
	for _, d := range devices {
		device, _ := d.(map[string]any)
		c := measuredComponents{
			model: number(device, "model"), state: number(device, "recurrent_state"), total: number(device, "total"),
			kv:      number(device, "kv") + number(device, "kv_full") + number(device, "kv_swa") + number(device, "indexer_kv"),
			compute: math.Max(number(device, "compute"), number(device, "compute_requested")),
		}
		if word(r.Measured, "unit") == "GiB" {
			c.compute *= 1024
		}
		sum.model += c.model
		sum.kv += c.kv
		sum.state += c.state
		sum.total += c.total
		largest.compute = math.Max(largest.compute, c.compute)
		largest.total = math.Max(largest.total, c.total)
	}
	total, _ := r.Measured["total"].(map[string]any)
	if kv := number(total, "kv"); sum.kv == 0 {
		sum.kv = kv
	}
	if state := number(total, "recurrent_state") + number(total, "recurrent_state_mtp_off"); sum.state == 0 {
		sum.state = state
	}
	return sum, largest
}

func TestLlamaAgainstMeasurements(t *testing.T) {
	var tb table
	for _, r := range readRecords(t, "llama.cpp", "ollama") {
		if r.Public {
			continue // the sweep, below
		}
		spec, ok := llamaModels[r.ID]
		if !ok {
			if missingLlama[r.ID] == "" {
				t.Errorf("%s: neither in the table of models nor in that of missing ones", r.ID)
			}
			continue
		}
		addLlama(t, &tb, &r, modelOfHeader(t, spec.Write()))
	}
	tb.log(t, "MiB")
	tb.check(t, llamaExcuses)
}

func addLlama(t *testing.T, tb *table, r *record, m *estimator.Model) {
	t.Helper()
	s, counts := llamaSettings(r)
	result, err := estimator.Estimate(m, s, counts, estimator.DeviceInfo{Name: r.GPU})
	if err != nil || len(result.Options) != 1 {
		t.Fatalf("%s: %v %+v", r.ID, err, result)
	}
	var got measuredComponents
	for i := range result.Options[0].Devices {
		c := &result.Options[0].Devices[i].Components
		got.model += float64(c.Weights) / mebibyte
		got.kv += float64(c.KVCache) / mebibyte
		got.state += float64(c.RecurrentState) / mebibyte
		got.compute = math.Max(got.compute, float64(c.Compute)/mebibyte)
	}
	want, largest := componentsOf(r)
	streams := math.Max(number(r.Settings, "parallel"), 1)
	if want.kv > 0 {
		tb.add(r.ID, "kv", want.kv, got.kv, 0.5*streams, 0.5*streams)
	}
	if want.state > 0 {
		tb.add(r.ID, "state", want.state, got.state, 0.5*streams, 0.5*streams)
	}
	if largest.compute > 0 {
		tb.add(r.ID, "compute", largest.compute, got.compute, 0, 0.6*largest.compute+128)
	}
	if want.model > 0 && weightsKnown[r.ID] {
		tb.add(r.ID, "model", want.model, got.model, 0.01*want.model, 0.05*want.model)
	}
}

// TestRecordsOfStatedGeometry compares with records of models whose layers are of several kinds, described here as
// their logs and public configurations do.
func TestRecordsOfStatedGeometry(t *testing.T) {
	kinds := func(m estimator.Model, kinds ...estimator.LayerKind) *estimator.Model {
		m.Format, m.Architecture, m.WeightsSource, m.FileSize = estimator.FormatGGUF, "stated", estimator.WeightsFromTensors, 1<<30
		m.Layers = kinds
		for i, k := range kinds {
			m.LayerCount += k.Count
			for range k.Count {
				m.LayerOrder = append(m.LayerOrder, int32(i))
			}
		}
		return &m
	}
	latent := func(count int32, heads int64) estimator.LayerKind {
		return estimator.LayerKind{Kind: estimator.LayerLatent, Count: count, Heads: heads, KVHeads: heads, KeyDim: 192, ValueDim: 128, LatentDim: 576, LatentValueDim: 512}
	}
	llama := func(context int64, cache string) estimator.Settings {
		return estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: context, Parallel: 1, MicroBatchSize: 512, KVCacheType: cache}
	}
	var tb table
	for _, tt := range []struct {
		record   string
		model    *estimator.Model
		settings estimator.Settings
		gpus     int
		compute  float64 // MiB; zero where the cache was measured
		kv       float64
	}{
		{
			"lc-unsloth-ctxcompute-gemma431b",
			kinds(estimator.Model{HiddenSize: 5376, FeedForward: 21504, VocabularySize: 262144},
				estimator.LayerKind{Kind: estimator.LayerSlidingWindow, Count: 50, Heads: 32, KVHeads: 16, KeyDim: 256, ValueDim: 256, Window: 1024},
				estimator.LayerKind{Kind: estimator.LayerAttention, Count: 10, Heads: 32, KVHeads: 4, KeyDim: 512, ValueDim: 512}),
			llama(262144, "q8_0"), 1, 2392, 0,
		},
		{
			"lc-unsloth-kimik3-4gpu-1m-compute",
			kinds(estimator.Model{HiddenSize: 7168, FeedForward: 33792, VocabularySize: 163840},
				latent(24, 96), estimator.LayerKind{Kind: estimator.LayerRecurrent, Count: 69, ConvState: 3 * 3 * 12288, SSMState: 12288 * 128, RecurrentWidth: 12288}),
			llama(1048576, "f16"), 4, 4096, 0,
		},
		{"lc-est-ling3-mla-kv-64k-q8", kinds(estimator.Model{HiddenSize: 2048}, latent(8, 16)), llama(65536, "q8_0"), 1, 0, 306},
	} {
		r, err := estimator.Estimate(tt.model, tt.settings, []int{tt.gpus}, estimator.DeviceInfo{})
		if err != nil {
			t.Fatal(err)
		}
		c := &r.Options[0].Devices[0].Components
		if tt.compute > 0 {
			tb.add(tt.record, "compute", tt.compute, float64(c.Compute)/mebibyte, 0, 0.6*tt.compute+128)
		}
		if tt.kv > 0 {
			tb.add(tt.record, "kv", tt.kv, float64(c.KVCache)/mebibyte, 0.5, 0.5)
		}
	}
	tb.log(t, "MiB")
	tb.check(t, nil)
}

// TestComputeBufferSweep compares with the compute buffers that gguf-parser-go measured over architectures, as far
// as the dimensions of the files are known here, and with that library's own estimate of the same header.
func TestComputeBufferSweep(t *testing.T) {
	var ours, theirs table
	for _, r := range readRecords(t, "llama.cpp") {
		arch, isSweep := strings.CutPrefix(r.ID, "lc-sweep-")
		spec, ok := sweepModels[arch]
		if !isSweep || !ok {
			continue
		}
		header := spec.Write()
		m := modelOfHeader(t, header)
		device, _ := r.Measured["device"].(map[string]any)["GPU0"].(map[string]any)
		for _, c := range []struct {
			name   string
			layers int64
		}{{"compute_full_offload", -1}, {"compute_4_layer_offload", 4}} {
			s, counts := llamaSettings(&r)
			s.GPULayers = estimator.LayersOf(c.layers)
			result, err := estimator.Estimate(m, s, counts, estimator.DeviceInfo{})
			if err != nil {
				t.Fatal(err)
			}
			measured := number(device, c.name)
			got := float64(result.Options[0].Devices[0].Components.Compute) / mebibyte
			ours.add(r.ID, c.name, measured, got, 0, 0.6*measured+128)
			theirs.add(r.ID, c.name, measured, libraryCompute(t, header, &s, c.layers), 0.1, 0.6*measured+128)
		}
	}
	ours.log(t, "MiB")
	ours.check(t, sweepExcuses)
	t.Log("gguf-parser-go on the same headers:")
	theirs.summarise(t)
}

// libraryCompute is gguf-parser-go's compute buffer in MiB, NaN where it panics.
func libraryCompute(t *testing.T, header []byte, s *estimator.Settings, layers int64) float64 {
	t.Helper()
	d, ok := libraryDevice(t, header, s, layers)
	if !ok {
		return math.NaN()
	}
	c := d.Computation
	return float64(c.Footprint+c.Input+c.Compute+c.Output) / mebibyte
}

// libraryTotal is gguf-parser-go's cache and compute buffer in MiB, NaN where it panics.
func libraryTotal(t *testing.T, header []byte, s *estimator.Settings) float64 {
	t.Helper()
	d, ok := libraryDevice(t, header, s, -1)
	if !ok {
		return math.NaN()
	}
	c := d.Computation
	return float64(d.KVCache.Key+d.KVCache.Value+c.Footprint+c.Input+c.Compute+c.Output) / mebibyte
}

// libraryDevice is gguf-parser-go's estimate for the GPU.
func libraryDevice(t *testing.T, header []byte, s *estimator.Settings, layers int64) (d parser.LLaMACppRunDeviceUsage, ok bool) {
	t.Helper()
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	name := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(name, header, 0o600); err != nil {
		t.Fatal(err)
	}
	// The library wants the data to be there: a hole of their size.
	h, err := gguf.ReadHeader(bytes.NewReader(header), int64(len(header)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, h.Bytes+h.DataBytes+64); err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseGGUFFile(name)
	if err != nil {
		t.Fatal(err)
	}
	cache := parser.GGMLTypeF16
	if s.KVCacheType == "q8_0" {
		cache = parser.GGMLTypeQ8_0
	}
	options := []parser.GGUFRunEstimateOption{
		parser.WithLLaMACppContextSize(int32(s.ContextLength * max(perSlot(s), 1))), parser.WithParallelSize(int32(s.Parallel)),
		parser.WithLLaMACppLogicalBatchSize(int32(max(s.BatchSize, s.MicroBatchSize))), parser.WithLLaMACppPhysicalBatchSize(int32(s.MicroBatchSize)),
		parser.WithLLaMACppCacheKeyType(cache), parser.WithLLaMACppCacheValueType(cache),
	}
	if s.FlashAttention != estimator.SwitchOff {
		options = append(options, parser.WithFlashAttention())
	}
	if layers >= 0 {
		options = append(options, parser.WithLLaMACppOffloadLayers(uint64(layers)))
	}
	return f.EstimateLLaMACppRun(options...).Devices[1], true
}

// perSlot is the slots whose context is given for one of them.
func perSlot(s *estimator.Settings) int64 {
	if s.Runtime == estimator.RuntimeOllama {
		return s.Parallel
	}
	return 1
}
