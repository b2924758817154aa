// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import "github.com/berth-dev/berth/pkg/estimator"

// mamba adds a Mamba-1 or Mamba-2 layer. States per sequence: (kernel − 1) columns of what the convolution sees,
// and the state matrix (Mamba-2, arXiv 2405.21060; layouts as in transformers' modeling_mamba2 and modeling_jamba).
func (b *builder) mamba(l *layer) {
	t := b.text
	kernel := t.intOr(4, "conv_kernel", "mamba_d_conv", "d_conv", "conv_kernel_size")
	state := t.intOr(16, "ssm_state_size", "mamba_d_state", "state_size", "d_state")
	heads := t.int("mamba_num_heads", "mamba_n_heads", "num_mamba_heads")
	if heads == 0 && b.mamba2 {
		heads = t.int("num_heads")
	}
	if ssm := t.sub("ssm_cfg"); ssm != nil { // state-spaces: the class's defaults, 128 states and heads of 64
		inner := mul(b.hidden, ssm.intOr(2, "expand"))
		if ssm.str("layer") == "Mamba2" {
			state, heads = ssm.intOr(128, "d_state"), inner/ssm.intOr(64, "headdim")
		}
	}
	inner := t.int("mamba_d_ssm", "mamba_intermediate_size", "d_inner")
	if dim := t.int("mamba_head_dim", "mamba_d_head"); inner == 0 && heads > 0 && dim > 0 {
		inner = heads * dim
	}
	if inner == 0 {
		inner = mul(b.hidden, t.intOr(2, "mamba_expand", "expand"))
	}
	k := &l.kind
	k.Kind = estimator.LayerRecurrent
	k.RecurrentWidth = inner
	k.SSMState = mul(inner, state)
	name := b.mixerName + "."
	if heads > 0 { // Mamba-2
		groups := t.intOr(1, "n_groups", "mamba_n_groups")
		conv := inner + 2*mul(groups, state)
		k.ConvState = mul(max(kernel-1, 0), conv)
		l.linear(name+"in_proj", b.hidden, inner+conv+heads, sharded)
		l.linear(name+"out_proj", inner, b.hidden, sharded)
		l.raw(mul(conv, kernel+1)+inner, sharded)
		l.float32s(3*heads, sharded)
		return
	}
	rank := t.intOr(ceilDiv(b.hidden, 16), "mamba_dt_rank", "time_step_rank")
	k.ConvState = mul(max(kernel-1, 0), inner)
	l.linear(name+"in_proj", b.hidden, 2*inner, sharded)
	l.linear(name+"x_proj", inner, rank+2*state, sharded)
	l.linear(name+"dt_proj", rank, inner, sharded)
	l.linear(name+"out_proj", inner, b.hidden, sharded)
	l.raw(mul(inner, kernel+1), sharded)
	l.float32s(mul(inner, state+2), sharded)
}

// linearAttention adds a layer of linear attention with a matrix state per head: gated delta net (Qwen3-Next,
// Qwen3.5), Kimi delta attention, or MiniMax's lightning attention.
func (b *builder) linearAttention(l *layer, _ int) {
	k := &l.kind
	k.Kind = estimator.LayerRecurrent
	switch linear := b.text.sub("linear_attn_config"); {
	case linear != nil:
		b.kimiDeltaAttention(l, linear)
	case b.text.int("linear_num_value_heads") > 0:
		b.gatedDeltaNet(l)
	default:
		width := mul(b.heads, b.headDim)
		k.RecurrentWidth = width
		k.SSMState = mul(width, b.headDim)
		l.linear("self_attn.qkv_proj", b.hidden, 3*width, sharded)
		l.linear("self_attn.output_gate", b.hidden, width, sharded)
		l.linear("self_attn.out_proj", width, b.hidden, sharded)
	}
}

// gatedDeltaNet: one convolution over queries, keys and values together; state of key dim × value dim per value
// head (transformers' modeling_qwen3_next).
func (b *builder) gatedDeltaNet(l *layer) {
	t := b.text
	keys := mul(t.int("linear_num_key_heads"), t.int("linear_key_head_dim"))
	valueHeads := t.int("linear_num_value_heads")
	values := mul(valueHeads, t.int("linear_value_head_dim"))
	kernel := t.intOr(4, "linear_conv_kernel_dim")
	conv := 2*keys + values
	k := &l.kind
	k.RecurrentWidth = values
	k.ConvState = mul(max(kernel-1, 0), conv)
	k.SSMState = mul(values, t.int("linear_key_head_dim"))
	l.linear("linear_attn.in_proj_qkv", b.hidden, conv, sharded)
	l.linear("linear_attn.in_proj_z", b.hidden, values, sharded)
	l.linear("linear_attn.in_proj_b", b.hidden, valueHeads, sharded)
	l.linear("linear_attn.in_proj_a", b.hidden, valueHeads, sharded)
	l.linear("linear_attn.out_proj", values, b.hidden, sharded)
	l.raw(mul(conv, kernel), sharded)
	l.float32s(2*valueHeads+t.int("linear_value_head_dim"), sharded)
}

// kimiDeltaAttention: separate convolutions for queries, keys and values (arXiv 2510.26692).
func (b *builder) kimiDeltaAttention(l *layer, linear fields) {
	heads, dim := linear.int("num_heads"), linear.int("head_dim")
	kernel := linear.intOr(4, "short_conv_kernel_size")
	width := mul(heads, dim)
	k := &l.kind
	k.RecurrentWidth = width
	k.ConvState = mul(max(kernel-1, 0), 3*width)
	k.SSMState = mul(width, dim)
	for _, name := range []string{"q_proj", "k_proj", "v_proj"} {
		l.linear("self_attn."+name, b.hidden, width, sharded)
	}
	l.raw(3*mul(width, kernel), sharded)
	l.linear("self_attn.f_a_proj", b.hidden, dim, replicated)
	l.linear("self_attn.f_b_proj", dim, width, sharded)
	if linear.bool(false, "use_full_rank_gate") {
		l.linear("self_attn.g_proj", b.hidden, width, sharded)
	} else {
		l.linear("self_attn.g_a_proj", b.hidden, dim, replicated)
		l.linear("self_attn.g_b_proj", dim, width, sharded)
	}
	l.linear("self_attn.b_proj", b.hidden, heads, sharded)
	l.linear("self_attn.o_proj", width, b.hidden, sharded)
	l.float32s(heads+width, sharded)
}

// shortConvolution adds LFM2's gated convolution, whose state is its last inputs.
func (b *builder) shortConvolution(l *layer) {
	kernel := b.text.intOr(3, "conv_L_cache")
	k := &l.kind
	k.Kind = estimator.LayerRecurrent
	k.RecurrentWidth = b.hidden
	k.ConvState = mul(max(kernel-1, 0), b.hidden)
	l.linear("conv.in_proj", b.hidden, 3*b.hidden, sharded)
	l.linear("conv.out_proj", b.hidden, b.hidden, sharded)
	l.raw(mul(kernel, b.hidden), sharded)
}

// gatedRecurrence adds the RG-LRU layer of RecurrentGemma (arXiv 2402.19427): two projections in, one out, a convolution,
// and two gates that are square in each head.
func (b *builder) gatedRecurrence(l *layer) {
	width := b.text.intOr(b.hidden, "lru_width")
	kernel := b.text.intOr(4, "conv1d_width")
	k := &l.kind
	k.Kind, k.RecurrentWidth = estimator.LayerRecurrent, width
	k.ConvState, k.SSMState = mul(max(kernel-1, 0), width), width
	l.linear("temporal_block.linear_x", b.hidden, width, sharded)
	l.linear("temporal_block.linear_y", b.hidden, width, sharded)
	l.linear("temporal_block.linear_out", width, b.hidden, sharded)
	l.raw(mul(2, width, width)/max(b.heads, 1)+mul(width, kernel+6)+b.hidden, sharded)
}

// timeMix adds the mixing of RWKV 6 and 7 (arXiv 2503.14456): receptance, key, value, gate and output, narrow pairs
// of matrices for what depends on the data, a matrix state per head, and the last token for both halves of the layer.
func (b *builder) timeMix(l *layer) {
	head := b.text.intOr(64, "head_dim", "head_size")
	k := &l.kind
	k.Kind, k.RecurrentWidth = estimator.LayerRecurrent, b.hidden
	k.ConvState, k.SSMState = mul(2, b.hidden), mul(b.hidden, head)
	for _, name := range []string{"r_proj", "k_proj", "v_proj", "o_proj"} {
		l.linear("attn."+name, b.hidden, b.hidden, sharded)
	}
	low := b.text.intOr(96, "decay_low_rank_dim") + b.text.intOr(96, "a_low_rank_dim") + b.text.intOr(64, "v_low_rank_dim") +
		b.text.intOr(256, "gate_low_rank_dim")
	l.raw(mul(2, low, b.hidden)+mul(14, b.hidden), replicated)
}
