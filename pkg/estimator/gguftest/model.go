// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguftest

import (
	"fmt"
	"strings"
)

// Model is the dimensions of a model, from which Write makes a whole header with all tensors.
type Model struct {
	Architecture string
	Layers       int
	Hidden       uint64
	FeedForward  uint64
	Heads        uint64
	KVHeads      uint64
	KeyDim       uint64
	ValueDim     uint64
	Vocabulary   uint64
	Context      uint32
	// Type is of the matrices of the layers, OutputType and EmbeddingType of the others (Type when zero, unless the
	// type is F32).
	Type, OutputType, EmbeddingType uint32
	// DownType is of the feed-forward layers' down projections (Type when zero), which quantizers keep finer.
	DownType uint32
	Tied     bool
	// Ungated feed-forward layers have two matrices; FusedUp ones have the gate in the up matrix. FusedQKV attention
	// has one.
	Ungated, FusedUp, FusedQKV bool
	// Window and its layers by the architecture's own pattern.
	Window uint32
	// Experts of a mixture, zero for a dense model.
	Experts, ExpertsUsed, ExpertFeedForward, SharedFeedForward uint64
	// LatentRank and RopeDim make attention latent (MLA, in its own layout unless PlainLatent), IndexerDim sparse in
	// IndexerLayers of the layers (all when zero).
	LatentRank, RopeDim, IndexerDim uint64
	IndexerLayers                   int
	PlainLatent                     bool
	// FullAttentionInterval and the state's dimensions make a hybrid.
	FullAttentionInterval            uint32
	Inner, State, Groups, ConvKernel uint64
	TimeStepRank                     uint64
	NextN                            int
	// Tokens are written as the tokenizer's vocabulary when set, to give the header its real length.
	Tokens []string
	// Extra are further metadata values.
	Extra []KV
}

// Write returns the header of the model.
func (m *Model) Write() []byte { return Header(m.values(), m.tensors()) }

func (m *Model) values() []KV {
	a := m.Architecture + "."
	kv := []KV{
		{"general.architecture", m.Architecture},
		{a + "block_count", uint32(m.Layers + m.NextN)},
		{a + "context_length", m.Context},
		{a + "embedding_length", uint32(m.Hidden)},
		{a + "feed_forward_length", uint32(m.FeedForward)},
		{a + "attention.head_count", uint32(m.Heads)},
		{a + "attention.head_count_kv", uint32(m.KVHeads)},
	}
	add := func(key string, n uint64) {
		if n > 0 {
			kv = append(kv, KV{a + key, uint32(n)})
		}
	}
	if m.LatentRank > 0 {
		add("attention.kv_lora_rank", m.LatentRank)
		add("rope.dimension_count", m.RopeDim)
		add("attention.key_length", m.LatentRank+m.RopeDim)
		add("attention.value_length", m.LatentRank)
		if !m.PlainLatent {
			add("attention.key_length_mla", m.KeyDim)
			add("attention.value_length_mla", m.ValueDim)
		}
	} else {
		add("attention.key_length", m.KeyDim)
		add("attention.value_length", m.ValueDim)
	}
	add("attention.indexer.key_length", m.IndexerDim)
	add("attention.sliding_window", uint64(m.Window))
	add("vocab_size", m.Vocabulary)
	add("expert_count", m.Experts)
	add("expert_used_count", m.ExpertsUsed)
	add("expert_feed_forward_length", m.ExpertFeedForward)
	add("expert_shared_feed_forward_length", m.SharedFeedForward)
	add("full_attention_interval", uint64(m.FullAttentionInterval))
	add("ssm.inner_size", m.Inner)
	add("ssm.state_size", m.State)
	add("ssm.group_count", m.Groups)
	add("ssm.conv_kernel", m.ConvKernel)
	add("ssm.time_step_rank", m.TimeStepRank)
	add("nextn_predict_layers", uint64(m.NextN))
	if m.Tokens != nil {
		kv = append(kv, KV{"tokenizer.ggml.tokens", m.Tokens})
	}
	return append(kv, m.Extra...)
}

func (m *Model) tensors() []Tensor {
	embedding, output := m.Type, m.Type
	if m.EmbeddingType != 0 {
		embedding = m.EmbeddingType
	}
	if m.OutputType != 0 {
		output = m.OutputType
	}
	ts := []Tensor{{"token_embd.weight", []uint64{m.Hidden, m.Vocabulary}, fitting(embedding, m.Hidden)}}
	for i := range m.Layers + m.NextN {
		ts = append(ts, m.layer(i)...)
	}
	ts = append(ts, Tensor{"output_norm.weight", []uint64{m.Hidden}, F32})
	if !m.Tied {
		ts = append(ts, Tensor{"output.weight", []uint64{m.Hidden, m.Vocabulary}, fitting(output, m.Hidden)})
	}
	return ts
}

func (m *Model) layer(i int) []Tensor {
	var ts []Tensor
	add := func(name string, typ uint32, dims ...uint64) {
		ts = append(ts, Tensor{fmt.Sprintf("blk.%d.%s.weight", i, name), dims, fitting(typ, dims[0])})
	}
	add("attn_norm", F32, m.Hidden)
	add("ffn_norm", F32, m.Hidden)
	query := m.Heads * m.KeyDim
	switch recurrent := m.FullAttentionInterval > 0 && (i+1)%int(m.FullAttentionInterval) != 0; {
	case recurrent:
		conv := m.Inner + 2*m.Groups*m.State
		add("attn_qkv", m.Type, m.Hidden, conv)
		add("attn_gate", m.Type, m.Hidden, m.Inner)
		add("ssm_conv1d", F32, m.ConvKernel, conv)
		add("ssm_out", m.Type, m.Inner, m.Hidden)
	case m.LatentRank > 0:
		add("attn_q", m.Type, m.Hidden, query)
		add("attn_kv_a_mqa", m.Type, m.Hidden, m.LatentRank+m.RopeDim)
		if !m.PlainLatent {
			add("attn_k_b", m.Type, m.KeyDim-m.RopeDim, m.LatentRank, m.Heads)
			add("attn_v_b", m.Type, m.LatentRank, m.ValueDim, m.Heads)
		} else {
			add("attn_kv_b", m.Type, m.LatentRank, m.Heads*(m.KeyDim-m.RopeDim+m.ValueDim))
		}
		add("attn_output", m.Type, m.Heads*m.ValueDim, m.Hidden)
		if m.IndexerDim > 0 && (m.IndexerLayers == 0 || i < m.IndexerLayers) {
			add("indexer.attn_k", m.Type, m.Hidden, m.IndexerDim)
		}
	case m.FusedQKV:
		add("attn_qkv", m.Type, m.Hidden, query+m.KVHeads*(m.KeyDim+m.ValueDim))
		add("attn_output", m.Type, query, m.Hidden)
	default:
		add("attn_q", m.Type, m.Hidden, query)
		add("attn_k", m.Type, m.Hidden, m.KVHeads*m.KeyDim)
		add("attn_v", m.Type, m.Hidden, m.KVHeads*m.ValueDim)
		add("attn_output", m.Type, query, m.Hidden)
	}
	if i >= m.Layers {
		add("nextn.eh_proj", m.Type, 2*m.Hidden, m.Hidden)
	}
	return append(ts, m.feedForward(i)...)
}

func (m *Model) feedForward(i int) []Tensor {
	var ts []Tensor
	add := func(name string, dims ...uint64) {
		typ := m.Type
		if m.DownType != 0 && strings.HasPrefix(name, "ffn_down") {
			typ = m.DownType
		}
		ts = append(ts, Tensor{fmt.Sprintf("blk.%d.%s.weight", i, name), dims, fitting(typ, dims[0])})
	}
	if m.Experts > 0 {
		add("ffn_gate_exps", m.Hidden, m.ExpertFeedForward, m.Experts)
		add("ffn_up_exps", m.Hidden, m.ExpertFeedForward, m.Experts)
		add("ffn_down_exps", m.ExpertFeedForward, m.Hidden, m.Experts)
		return ts
	}
	if m.FeedForward == 0 {
		return ts
	}
	if m.FusedUp {
		add("ffn_up", m.Hidden, 2*m.FeedForward)
	} else {
		add("ffn_up", m.Hidden, m.FeedForward)
		if !m.Ungated {
			add("ffn_gate", m.Hidden, m.FeedForward)
		}
	}
	add("ffn_down", m.FeedForward, m.Hidden)
	return ts
}

// fitting returns the type, or the one that quantizers fall back to for rows that are no multiple of its blocks.
func fitting(typ uint32, row uint64) uint32 {
	for _, t := range []uint32{typ, Q8_0, F16} {
		if row%blocks[t][0] == 0 {
			return t
		}
	}
	return F32
}
