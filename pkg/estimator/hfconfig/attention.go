// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"slices"

	"github.com/berth-dev/berth/pkg/estimator"
)

// mix adds the part of layer i that mixes tokens: attention of some kind, a recurrent state, or nothing.
func (b *builder) mix(l *layer, i int) {
	switch kind := b.mixer(i); kind {
	case "mamba", "mamba2", "M":
		b.mamba(l)
	case "linear_attention":
		b.linearAttention(l, i)
	case "time_mix":
		b.timeMix(l)
	case "recurrent":
		b.gatedRecurrence(l)
	case "cross_attention":
		b.crossAttention(l)
	case "conv", "short_conv":
		b.shortConvolution(l)
	case "mlp", "moe", "-", "E", "none":
		l.kind.Kind = estimator.LayerStateless
	case "hybrid": // attention and Mamba side by side (Falcon-H1, Hymba)
		b.mamba(l)
		b.attention(l, i, "full_attention")
	default:
		switch {
		case len(b.ints("compress_ratios")) > 0:
			b.compressedAttention(l, i)
		case b.text.int("kv_lora_rank") > 0:
			b.latentAttention(l, i)
		default:
			b.attention(l, i, kind)
		}
	}
}

// mixer names how layer i mixes tokens, in the words of transformers' layer_types where the configuration uses
// other ones for the same.
func (b *builder) mixer(i int) string {
	if pattern := b.text.str("hybrid_override_pattern"); pattern != "" { // Nemotron-H: M, *, -, E
		if i < len(pattern) && pattern[i] != '*' {
			return string(pattern[i])
		}
		return "full_attention"
	}
	for _, name := range []string{"layer_types", "layers_block_type"} {
		types := b.strs(name)
		if i >= len(types) {
			continue
		}
		switch t := types[i]; t {
		case "attention":
			return "full_attention"
		case "hybrid":
			return "hybrid"
		default:
			return t
		}
	}
	if linear := b.text.sub("linear_attn_config"); linear != nil { // Kimi Linear counts layers from 1
		if slices.Contains(b.intsOf(linear, "full_attn_layers"), int64(i)+1) {
			return "full_attention"
		}
		return "linear_attention"
	}
	if types := b.ints("attn_type_list"); i < len(types) && b.lightning { // MiniMax-Text-01: 0 is linear
		if types[i] == 0 {
			return "linear_attention"
		}
		return "full_attention"
	}
	if n := b.text.int("full_attention_interval"); n > 0 { // Qwen3-Next, Qwen3.5
		if (int64(i)+1)%n == 0 {
			return "full_attention"
		}
		return "linear_attention"
	}
	if period := b.text.int("attn_layer_period"); period > 0 { // Jamba
		if int64(i)%period == b.text.int("attn_layer_offset")%period {
			return "full_attention"
		}
		return "mamba"
	}
	if indices := b.ints("attn_layer_indices"); indices != nil { // Bamba
		if slices.Contains(indices, int64(i)) {
			return "full_attention"
		}
		return "mamba"
	}
	if indices := b.ints("full_attn_idxs"); indices != nil { // LFM2
		if slices.Contains(indices, int64(i)) {
			return "full_attention"
		}
		return "conv"
	}
	if types := b.strs("block_types"); len(types) > 0 { // RecurrentGemma repeats them
		if types[i%len(types)] == "recurrent" {
			return "recurrent"
		}
		return "sliding_attention"
	}
	if pattern := b.ints("hybrid_layer_pattern"); i < len(pattern) { // MiMo V2: 1 is windowed
		if pattern[i] == 1 {
			return "sliding_attention"
		}
		return "full_attention"
	}
	if slices.Contains(b.ints("cross_attention_layers"), int64(i)) { // Llama 3.2 Vision
		return "cross_attention"
	}
	if b.rwkv {
		return "time_mix"
	}
	if b.recurrentOnly {
		return "mamba"
	}
	if b.parallelMambaOnly {
		return "hybrid"
	}
	return b.slidingOrFull(i)
}

// slidingOrFull tells windowed layers from full ones in configurations that give a period instead of a list.
func (b *builder) slidingOrFull(i int) string {
	if b.text.int("sliding_window") == 0 || !b.text.bool(!b.windowOptIn, "use_sliding_window") {
		return "full_attention"
	}
	period := b.text.intOr(b.windowPeriod, "sliding_window_pattern")
	switch {
	case period > 1:
		// Every period-th layer sees everything (Gemma 3: 6, Cohere 2: 4; Gemma 2 alternates, windowed first).
		if (int64(i)+1)%period == 0 {
			return "full_attention"
		}
		return "sliding_attention"
	case b.windowedThroughout:
		return "sliding_attention"
	}
	return "full_attention"
}

// attention adds grouped-query attention. Llama 4's chunked attention counts as full: engines keep its cache whole.
func (b *builder) attention(l *layer, i int, kind string) {
	heads, kvHeads, dim := b.heads, b.kvHeads, b.headDim
	value := b.text.intOr(dim, "v_head_dim")
	keyEqualsValue := false
	k := &l.kind
	switch kind {
	case "sliding_attention":
		k.Kind = estimator.LayerSlidingWindow
		k.Window = b.text.int("sliding_window", "attention_window_size")
		heads, kvHeads = b.text.intOr(heads, "swa_num_attention_heads"), b.text.intOr(kvHeads, "swa_num_key_value_heads")
		dim = b.text.intOr(dim, "swa_head_dim")
		value = b.text.intOr(value, "swa_v_head_dim")
	default:
		k.Kind = estimator.LayerAttention
		if d := b.text.int("global_head_dim"); d > 0 { // Gemma 4
			dim, value = d, d
			kvHeads = b.text.intOr(kvHeads, "num_global_key_value_heads")
			keyEqualsValue = b.text.bool(false, "attention_k_eq_v")
		}
	}
	if perLayer := b.ints("num_key_value_heads_per_layer"); i < len(perLayer) {
		kvHeads = perLayer[i]
	}
	if perLayer := b.ints("num_attention_heads_per_layer"); i < len(perLayer) {
		heads = perLayer[i]
	}
	if perLayer := b.ints("num_kv_heads"); i < len(perLayer) { // OpenELM
		kvHeads = perLayer[i]
		if q := b.ints("num_query_heads"); i < len(q) {
			heads = q[i]
		}
	}
	if block := b.block(i); block != nil { // DeciLM: attention may be absent, or its heads differ
		a := block.sub("attention")
		if a.bool(false, "no_op", "replace_with_linear") {
			k.Kind = estimator.LayerStateless
			if a.bool(false, "replace_with_linear") {
				l.linear("self_attn.linear_attn", b.hidden, b.hidden, sharded)
			}
			return
		}
		if n := a.int("n_heads_in_group"); n > 0 {
			kvHeads = max(heads/n, 1)
		}
	}
	k.Heads, k.KVHeads, k.KeyDim, k.ValueDim = heads, kvHeads, dim, value
	name := b.attentionName + "."
	query := mul(heads, dim)
	queryOut := query
	if b.text.bool(b.gatedAttention, "attn_output_gate", "attention_output_gate") {
		queryOut *= 2 // the gate comes out of the same projection
	}
	l.linear(name+"q_proj", b.hidden, queryOut, sharded)
	l.linear(name+"k_proj", b.hidden, mul(kvHeads, dim), kvSharded)
	if !keyEqualsValue {
		l.linear(name+"v_proj", b.hidden, mul(kvHeads, value), kvSharded)
	}
	l.linear(name+"o_proj", mul(heads, value), b.hidden, sharded)
	if b.text.bool(b.attentionBias, "attention_bias", "qkv_bias") {
		l.raw(query, sharded)
		l.raw(2*mul(kvHeads, dim), kvSharded)
	}
	if sparse := b.text.sub("sparse_attention_config"); sparse != nil && sparse.bool(true, "use_sparse_attention") {
		b.blockIndexer(l, i, sparse)
	}
	if shared := b.text.int("num_kv_shared_layers"); shared > 0 && int64(i) >= int64(b.layers)-shared {
		// The last layers read the cache of an earlier one (Gemma 3n, Gemma 4 E-models).
		k.Kind, k.KVHeads, k.KeyDim, k.ValueDim, k.Window = estimator.LayerStateless, 0, 0, 0, 0
	}
}

// crossAttention adds a layer that attends to the image instead of the text (Llama 3.2 Vision): it keeps the patches of
// every tile, one more each for its class, whatever the context.
func (b *builder) crossAttention(l *layer) {
	b.attention(l, 0, "full_attention")
	tower := b.root.sub("vision_config")
	side := ceilDiv(tower.intOr(560, "image_size"), tower.intOr(14, "patch_size"))
	l.kind.Kind = estimator.LayerCross
	l.kind.CrossTokens = mul(tower.intOr(4, "max_num_tiles"), mul(side, side)+1)
}

// blockIndexer adds the indexer of MiniMax M3's block-sparse attention, which caches one key per token.
func (b *builder) blockIndexer(l *layer, i int, sparse fields) {
	if on := b.intsOf(sparse, "sparse_attention_freq"); i < len(on) && on[i] == 0 {
		return
	}
	dim := sparse.int("sparse_index_dim")
	l.linear(b.attentionName+".index_q_proj", b.hidden, mul(sparse.int("sparse_num_index_heads"), dim), replicated)
	l.linear(b.attentionName+".index_k_proj", b.hidden, dim, replicated)
	l.kind.IndexerDim = dim
}

// block returns the block configuration of layer i of a DeciLM model, nil for others.
func (b *builder) block(i int) fields {
	if b.blocks == nil {
		b.blocks = b.text.objects("block_configs")
		if b.blocks == nil {
			b.blocks = []fields{}
		}
	}
	if i >= len(b.blocks) {
		return nil
	}
	return b.blocks[i]
}

// latentAttention adds multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), with the indexer
// of DeepSeek-V3.2's sparse attention where the configuration has one.
func (b *builder) latentAttention(l *layer, i int) {
	rank := b.text.int("kv_lora_rank")
	rope := b.text.int("qk_rope_head_dim")
	nope := b.text.intOr(b.headDim, "qk_nope_head_dim")
	value := b.text.intOr(nope, "v_head_dim")
	queryRank := b.text.int("q_lora_rank")
	k := &l.kind
	k.Kind = estimator.LayerLatent
	k.Heads, k.KVHeads = b.heads, b.heads
	k.KeyDim, k.ValueDim = nope+rope, value
	k.LatentDim, k.LatentValueDim = rank+rope, rank
	name := b.attentionName + "."
	queryIn := b.hidden
	if queryRank > 0 {
		l.linear(name+"q_a_proj", b.hidden, queryRank, replicated)
		queryIn = queryRank
		l.linear(name+"q_b_proj", queryIn, mul(b.heads, nope+rope), sharded)
	} else {
		l.linear(name+"q_proj", queryIn, mul(b.heads, nope+rope), sharded)
	}
	l.linear(name+"kv_a_proj_with_mqa", b.hidden, rank+rope, replicated)
	l.linear(name+"kv_b_proj", rank, mul(b.heads, nope+value), sharded)
	l.linear(name+"o_proj", mul(b.heads, value), b.hidden, sharded)
	if b.text.bool(false, "mla_use_output_gate") { // Kimi K3
		l.linear(name+"g_proj", b.hidden, mul(b.heads, value), sharded)
	}
	if dim := b.text.int("index_head_dim"); dim > 0 {
		heads := b.text.int("index_n_heads")
		l.linear(name+"indexer.wq_b", queryIn, mul(heads, dim), replicated)
		l.linear(name+"indexer.wk", b.hidden, dim, replicated)
		l.raw(mul(b.hidden, heads), replicated)
		if types := b.strs("indexer_types"); i >= len(types) || types[i] != "shared" {
			k.IndexerDim = dim // others have the matrices, and take what an earlier layer's indexer selected (GLM 5.2)
		}
	}
}

// compressedAttention adds DeepSeek-V4's attention: one shared key/value vector per token, kept for a sliding
// window, and per compress_ratio tokens one compressed vector (and one of the indexer at ratio 4) for the rest.
func (b *builder) compressedAttention(l *layer, i int) {
	ratios := b.ints("compress_ratios")
	var ratio int64
	if i < len(ratios) {
		ratio = ratios[i]
	}
	queryRank, outRank := b.text.int("q_lora_rank"), b.text.int("o_lora_rank")
	groups := max(b.text.int("o_groups"), 1)
	k := &l.kind
	k.Kind = estimator.LayerLatent
	k.Heads, k.KVHeads, k.KeyDim, k.ValueDim = b.heads, b.heads, b.headDim, b.headDim
	k.LatentDim = b.headDim
	k.Window = b.text.int("sliding_window")
	k.CompressRatio = ratio
	name := b.attentionName + "."
	l.linear(name+"wq_a", b.hidden, queryRank, replicated)
	l.linear(name+"wq_b", queryRank, mul(b.heads, b.headDim), sharded)
	l.linear(name+"wkv", b.hidden, b.headDim, replicated)
	l.linear(name+"wo_a", mul(b.heads, b.headDim)/groups, mul(groups, outRank), sharded)
	l.linear(name+"wo_b", mul(groups, outRank), b.hidden, sharded)
	if streams := b.text.int("hc_mult"); streams > 0 { // hyper-connections mix the streams before both halves
		l.float32s(2*mul((2+streams)*streams, streams*b.hidden), replicated)
	}
	if ratio == 0 {
		return
	}
	overlap := int64(1)
	if ratio == 4 {
		overlap = 2 // neighbouring blocks overlap at the fine ratio
		dim, heads := b.text.int("index_head_dim"), b.text.int("index_n_heads")
		k.IndexerDim = dim
		l.linear(name+"indexer.wq_b", queryRank, mul(heads, dim), replicated)
		l.raw(mul(b.hidden, heads)+2*mul(b.hidden, 2*dim), replicated)
	}
	l.raw(2*mul(b.hidden, overlap*b.headDim), replicated)
}
