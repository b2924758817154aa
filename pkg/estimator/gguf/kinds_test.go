// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguftest"
)

// header is small with another architecture, more values and more tensors.
func variant(arch string, values []gguftest.KV, tensors ...gguftest.Tensor) []byte {
	kv := []gguftest.KV{
		{Key: "general.architecture", Value: arch}, {Key: arch + ".block_count", Value: uint32(4)},
		{Key: arch + ".embedding_length", Value: uint32(256)}, {Key: arch + ".attention.head_count", Value: uint32(4)},
	}
	for _, v := range values {
		kv = append(kv, gguftest.KV{Key: arch + "." + v.Key, Value: v.Value})
	}
	return gguftest.Header(kv, append(tensors, gguftest.Tensor{Name: "token_embd.weight", Dims: []uint64{256, 1000}, Type: gguftest.F16}))
}

func matrix(name string, columns, rows uint64) gguftest.Tensor {
	return gguftest.Tensor{Name: name, Dims: []uint64{columns, rows}, Type: gguftest.F16}
}

func TestEncodersCacheNothingAndHaveNoOutput(t *testing.T) {
	for arch, want := range map[string]struct{ Cacheless, NoOutput bool }{
		"bert": {true, true}, "nomic-bert": {true, true}, "modern-bert": {true, true}, "jina-bert-v2": {true, true},
		"dream": {true, false}, "llada-moe": {true, false}, "gemma-embedding": {true, false}, "llama": {false, false},
	} {
		m := read(t, variant(arch, nil, matrix("blk.0.attn_q.weight", 256, 256)))
		if got := (struct{ Cacheless, NoOutput bool }{m.Cacheless, m.NoOutput}); got != want {
			t.Errorf("%s: %+v, want %+v", arch, got, want)
		}
	}
}

func TestLayersThatShareACacheSayWhose(t *testing.T) {
	// Layers 0 to 2 have caches. The shared ones read the last of their sort: layer 2, the windowed ones layer 1.
	m := read(t, variant("gemma4", []gguftest.KV{
		{Key: "attention.shared_kv_layers", Value: uint32(1)}, {Key: "attention.sliding_window", Value: uint32(512)},
		{Key: "attention.sliding_window_pattern", Value: []bool{true, true, false, true}},
	}))
	want := estimator.LayerKind{Kind: estimator.LayerStateless, Count: 1, SharesCacheOf: 1 + 1}
	if diff := cmp.Diff(want, *m.KindOf(3)); diff != "" {
		t.Errorf("layer 3 (-want +got):\n%s", diff)
	}
}

func TestDeepSeekV4(t *testing.T) {
	m := read(t, variant("deepseek4", []gguftest.KV{
		{Key: "attention.key_length", Value: uint32(64)}, {Key: "attention.sliding_window", Value: uint32(128)},
		{Key: "attention.compress_ratios", Value: []uint32{0, 4, 128, 4}}, {Key: "hyper_connection.count", Value: uint32(4)},
		{Key: "attention.indexer.key_length", Value: uint32(32)}, {Key: "attention.indexer.head_count", Value: uint32(8)},
	},
		matrix("blk.0.attn_kv.weight", 256, 64), matrix("blk.1.attn_kv.weight", 256, 64), matrix("blk.2.attn_kv.weight", 256, 64),
		matrix("blk.1.attn_compressor_kv.weight", 256, 128), matrix("blk.2.attn_compressor_kv.weight", 256, 64),
		matrix("blk.1.indexer.attn_k.weight", 256, 64),
	))
	latent := estimator.LayerKind{
		Kind: estimator.LayerLatent, Count: 1, Heads: 4, KVHeads: 4, KeyDim: 64, ValueDim: 64, LatentDim: 64, LatentValueDim: 64, Window: 128,
	}
	four, many := latent, latent
	// Two overlapping groups of four tokens, each twice as wide: keys and scores of 64 + 32 elements.
	four.CompressRatio, four.IndexerDim, four.IndexerHeads, four.ConvState = 4, 32, 8, 2*2*2*4*(64+32)
	many.CompressRatio, many.ConvState = 128, 2*128*64
	if diff := cmp.Diff([]estimator.LayerKind{latent, four, many}, []estimator.LayerKind{*m.KindOf(0), *m.KindOf(1), *m.KindOf(2)}); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if m.StreamWidth != 4*256 {
		t.Errorf("a residual stream of %d, want four of 256", m.StreamWidth)
	}
}

func TestWhatTensorsTell(t *testing.T) {
	m := read(t, variant("mamba2", []gguftest.KV{
		{Key: "ssm.inner_size", Value: uint32(512)}, {Key: "ssm.state_size", Value: uint32(64)}, {Key: "ssm.group_count", Value: uint32(2)},
		{Key: "ssm.time_step_rank", Value: uint32(8)}, {Key: "ssm.conv_kernel", Value: uint32(4)},
	}, matrix("blk.0.ssm_in.weight", 256, 1288)))
	if got, want := m.KindOf(0).ProjectionWidth, int64(2*512+2*2*64+8); got != want {
		t.Errorf("Mamba 2 projects to %d elements, want %d", got, want)
	}
	expert := gguftest.Tensor{Name: "blk.1.ffn_gate_up_exps.weight", Dims: []uint64{256, 512, 8}, Type: gguftest.F16}
	m = read(t, variant("qwen3moe", []gguftest.KV{{Key: "expert_count", Value: uint32(8)}},
		expert, matrix("blk.1.attn_q.weight", 256, 1024), matrix("blk.1.ffn_gate_shexp.weight", 256, 128), matrix("blk.1.ffn_gate_inp.weight", 256, 8)))
	if m.Experts.LargestMatrix != 256*512*8*2 || !m.Experts.FusedGate {
		t.Errorf("experts %+v, want a fused matrix of 2 MiB", m.Experts)
	}
	if m.LargestMatrix != 256*1024*2 || m.MirroredWeights != 256*(128+8)*2 {
		t.Errorf("largest matrix %d and %d mirrored, want the query's and those of router and shared expert", m.LargestMatrix, m.MirroredWeights)
	}
	sequential := read(t, variant("command-r", nil, matrix("blk.0.ffn_up.weight", 256, 512), matrix("blk.0.ffn_norm.weight", 256, 1)))
	parallel := read(t, variant("command-r", nil, matrix("blk.0.ffn_up.weight", 256, 512)))
	if sequential.ParallelAttention || !parallel.ParallelAttention {
		t.Errorf("parallel attention %t with a norm before the feed-forward part and %t without", sequential.ParallelAttention, parallel.ParallelAttention)
	}
}

func TestUnusedPredictionLayersAreCachedUnlessFiltered(t *testing.T) {
	for arch, cached := range map[string]bool{"glm4moe": true, "bailingmoe3": true, "qwen35": false, "glm-dsa": false, "step35": false} {
		m := read(t, variant(arch, []gguftest.KV{{Key: "nextn_predict_layers", Value: uint32(1)}}, matrix("blk.3.nextn.eh_proj.weight", 512, 256)))
		if m.Draft == nil || m.Draft.Cached != cached || m.LayerCount != 3 {
			t.Errorf("%s: %d layers and draft %+v, want 3 and one cached: %t", arch, m.LayerCount, m.Draft, cached)
		}
	}
}
