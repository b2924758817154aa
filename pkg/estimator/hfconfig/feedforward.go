// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// feedForward adds the feed-forward part of layer i. It returns the width of its dense part, and whether it has
// routed experts.
func (b *builder) feedForward(l *layer, i int) (int64, bool) {
	switch b.mixer(i) {
	case "M", "*", "mamba2":
		if b.oneHalfPerLayer {
			return 0, false
		}
	case "mamba", "full_attention":
		if b.oneHalfPerLayer {
			return 0, false
		}
	}
	if b.noFeedForward {
		return 0, false
	}
	hasExperts := b.hasExperts(i)
	var width int64
	switch {
	case !hasExperts:
		width = b.denseWidth(i)
	case b.denseBesideExperts:
		width = b.text.int("intermediate_size", "ffn_hidden_size")
	}
	if width > 0 {
		b.mlp(l, b.feedForwardName, b.hidden, width)
	}
	if hasExperts {
		b.mixture(l)
	}
	return width, hasExperts
}

// mlp adds a dense feed-forward layer.
func (b *builder) mlp(l *layer, name string, in, width int64) {
	if b.gated() {
		l.linear(name+".gate_proj", in, width, sharded)
	}
	l.linear(name+".up_proj", in, width, sharded)
	l.linear(name+".down_proj", width, in, sharded)
}

// gated says whether feed-forward layers have a gate projection, three matrices instead of two.
func (b *builder) gated() bool {
	if b.gatedAlways {
		return true
	}
	return !b.ungated && b.text.str("mlp_hidden_act", "hidden_act") != "relu2"
}

// mixture adds the router, the routed experts and the shared ones.
func (b *builder) mixture(l *layer) {
	e := b.experts()
	in := b.hidden
	l.raw(mul(b.hidden, e.Count+b.text.int("zero_expert_num")), replicated) // experts without weights are chosen from, too
	if latent := b.text.int("moe_latent_size", "routed_expert_hidden_size"); latent > 0 {
		// The routed experts work on a narrower stream (Nemotron 3 Super, Kimi K3).
		in = latent
		l.linear(b.feedForwardName+".fc1_latent_proj", b.hidden, latent, replicated)
		l.linear(b.feedForwardName+".fc2_latent_proj", latent, b.hidden, replicated)
	}
	if b.gated() {
		l.linears(b.expertsName+".0.gate_proj", in, e.FeedForward, e.Count, experts)
	}
	l.linears(b.expertsName+".0.up_proj", in, e.FeedForward, e.Count, experts)
	l.linears(b.expertsName+".0.down_proj", e.FeedForward, in, e.Count, experts)
	if e.SharedFeedForward > 0 {
		b.mlp(l, b.sharedExpertsName, b.hidden, e.SharedFeedForward)
	}
	if b.expertBias {
		l.raw(mul(e.Count, 2*e.FeedForward+b.hidden), experts)
	}
}

// expertCount returns the routed experts of a layer, zero for a dense model.
func (b *builder) expertCount() int64 {
	if ffn := b.text.sub("ffn_config"); ffn != nil && b.text.int("n_routed_experts", "num_local_experts", "num_experts") == 0 {
		return ffn.int("moe_num_experts") // DBRX
	}
	return b.text.int("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "num_routed_experts")
}

// experts describes the mixture.
func (b *builder) experts() *estimator.Experts {
	t := b.text
	e := &estimator.Experts{
		Count:       b.expertCount(),
		Used:        b.mostOr(1, "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_top_k", "moe_topk", "moe_k", "num_selected_experts"),
		FeedForward: t.int("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "intermediate_size"),
	}
	if sizes := b.ints("moe_intermediate_size"); len(sizes) > 0 { // ERNIE, Hunyuan: one number per layer or kind
		e.FeedForward = slices.Max(sizes)
	}
	if ffn := t.sub("ffn_config"); ffn != nil {
		e.FeedForward = ffn.intOr(e.FeedForward, "ffn_hidden_size")
		e.Used = ffn.intOr(e.Used, "moe_top_k")
	}
	if e.FeedForward == 0 {
		e.FeedForward = b.assume("moe_intermediate_size", b.hidden)
	}
	e.SharedFeedForward = t.int("moe_shared_expert_intermediate_size", "shared_expert_intermediate_size",
		"share_expert_dim", "shared_intermediate_size")
	if e.SharedFeedForward == 0 {
		e.SharedFeedForward = mul(b.mostOr(b.sharedExpertsByDefault, "n_shared_experts", "num_shared_experts",
			"num_shared_expert", "moe_num_shared_experts"), e.FeedForward)
	}
	return e
}

// hasExperts says whether layer i has routed experts.
func (b *builder) hasExperts(i int) bool {
	t := b.text
	if b.expertCount() < 2 {
		return false
	}
	if b.oneHalfPerLayer {
		kind := b.mixer(i)
		return kind == "E" || kind == "moe"
	}
	if list := b.ints("moe_layer_freq"); i < len(list) {
		return list[i] != 0
	}
	if list := b.ints("moe_layers"); list != nil { // Llama 4
		return slices.Contains(list, int64(i))
	}
	if types := b.strs("mlp_layer_types"); i < len(types) {
		return types[i] == "sparse"
	}
	if slices.Contains(b.ints("mlp_only_layers"), int64(i)) {
		return false
	}
	if b.twoAttentions {
		return i%2 == 0
	}
	layer := int64(i)
	if first := t.int("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"); layer < first {
		return false
	}
	if step := t.int("interleave_moe_layer_step", "decoder_sparse_step", "moe_layer_interval"); step > 1 {
		return (layer+1)%step == 0
	}
	if freq := t.int("moe_layer_freq"); freq > 1 {
		return layer%freq == 0
	}
	if period := t.int("expert_layer_period"); period > 0 { // Jamba
		return layer%period == t.int("expert_layer_offset")%period
	}
	return true
}

// denseWidth returns the width of layer i's dense feed-forward layer.
func (b *builder) denseWidth(i int) int64 {
	t := b.text
	if block := b.block(i); block != nil {
		return b.blockWidth(block.sub("ffn"))
	}
	if sizes := b.ints("intermediate_size"); i < len(sizes) { // Gemma 3n
		return sizes[i]
	}
	if b.expertCount() > 1 {
		// The few dense layers of a mixture have a width of their own.
		if w := t.int("dense_intermediate_size", "intermediate_size_mlp"); w > 0 {
			return w
		}
	}
	if w := t.int("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "inner_hidden_size", "intermediate_dim", "mlp_hidden_size"); w > 0 {
		if b.halvedWidth {
			w /= 2 // Qwen 1 counts gate and up together
		}
		return b.adjustedWidth(w, i)
	}
	if ffn := t.sub("ffn_config"); ffn != nil {
		return ffn.int("ffn_hidden_size")
	}
	if b.fourTimesHidden {
		return mul(4, b.hidden)
	}
	return b.assume("intermediate_size", mul(4, b.hidden))
}

// adjustedWidth returns the width that a layer really has where the configuration's is a starting point: two thirds of
// it, rounded up, in LFM2 (transformers, modeling_lfm2.py, Lfm2MLP), twice as wide in the layers of Gemma 4's E2B that
// share a cache (modeling_gemma4.py, use_double_wide_mlp).
func (b *builder) adjustedWidth(w int64, i int) int64 {
	t := b.text
	if t.bool(false, "block_auto_adjust_ff_dim") {
		w = 2 * w / 3
		if f, ok := t.number("block_ffn_dim_multiplier"); ok && f > 0 && f < 64 {
			w = int64(f * float64(w))
		}
		multiple := t.intOr(1, "block_multiple_of")
		w = mul(ceilDiv(w, multiple), multiple)
	}
	if shared := t.int("num_kv_shared_layers"); shared > 0 && int64(i) >= int64(b.layers)-shared && t.bool(false, "use_double_wide_mlp") {
		w = mul(2, w)
	}
	return w
}

// blockWidth returns the width of a DeciLM block: ffn_mult × 2/3 × hidden × 2, rounded up to 256, where a width is
// not given (the rule of its configuration class).
func (b *builder) blockWidth(ffn fields) int64 {
	if ffn == nil || ffn.bool(false, "no_op") {
		return 0
	}
	if w := ffn.int("intermediate_size"); w > 0 {
		return w
	}
	mult, ok := ffn.number("ffn_mult")
	if !ok || mult <= 0 || mult > 64 {
		return b.assume("ffn_mult", mul(4, b.hidden))
	}
	return mul(ceilDiv(int64(2*mult*float64(b.hidden)/3), 256), 256)
}

// assume records that a dimension is missing and what is taken instead; the estimate is marked for it.
func (b *builder) assume(name string, value int64) int64 {
	if !slices.Contains(b.missing, name) {
		b.missing = append(b.missing, name)
	}
	return value
}

// commonName gives the matrices of experts that some checkpoints number (Mixtral, MiniMax) their common names.
func commonName(name string) string {
	for number, common := range map[string]string{".w1": ".gate_proj", ".w2": ".down_proj", ".w3": ".up_proj"} {
		if cut, ok := strings.CutSuffix(name, number); ok {
			return cut + common
		}
	}
	return name
}
