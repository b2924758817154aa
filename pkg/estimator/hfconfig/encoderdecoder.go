// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// twoStacks says whether the model is an encoder with a decoder that attends to its result (T5, BART, Whisper), by its
// architecture or, where that is not known, by what the configuration says.
func (b *builder) twoStacks() bool {
	return b.encoderDecoder || !b.known && (b.text.bool(false, "is_encoder_decoder") || b.text.int("encoder_layers") > 0 && b.text.int("decoder_layers") > 0)
}

// stack is one of the two.
type stack struct{ layers, heads, width, feedForward int64 }

// readStack reads the dimensions of one stack: "encoder" or "decoder". T5 gives most of them once for both
// (transformers, configuration_t5.py, configuration_bart.py, configuration_whisper.py).
func (b *builder) readStack(name string) stack {
	t := b.text
	s := stack{
		layers:      t.int(name+"_layers", "num_"+name+"_layers", "num_layers", "num_hidden_layers"),
		heads:       t.int(name+"_attention_heads", "num_heads", "num_attention_heads"),
		feedForward: t.int(name+"_ffn_dim", "d_ff", "intermediate_size"),
	}
	if s.heads == 0 {
		s.heads = b.assume(name+"_attention_heads", max(b.hidden/64, 1))
	}
	if s.feedForward == 0 {
		s.feedForward = b.assume(name+"_ffn_dim", mul(4, b.hidden))
	}
	s.width = mul(s.heads, t.intOr(max(b.hidden/s.heads, 1), "d_kv"))
	s.layers = min(s.layers, maxLayers)
	return s
}

// stacks adds the layers of both: those of the encoder keep nothing, those of the decoder the context, and beside it
// the keys and values of the encoder's whole result.
func (b *builder) stacks(m *estimator.Model) *kinds {
	encoder, decoder := b.readStack("encoder"), b.readStack("decoder")
	source := b.text.int("max_source_positions", "max_position_embeddings", "n_positions")
	if source == 0 {
		source = 512 // T5's relative positions have no limit; its class says 512
	}
	if m.ContextLength == 0 {
		m.ContextLength = b.text.int("max_target_positions", "n_positions") // T5 has no limit of its own
	}
	m.FeedForward = max(encoder.feedForward, decoder.feedForward)
	out := newKinds(int(encoder.layers + 2*decoder.layers))
	add := func(s stack, prefix string, i int64, kind estimator.LayerKind, feedForward bool) {
		l := &layer{b: b, prefix: prefix + ".layers." + strconv.FormatInt(i, 10) + ".", kind: kind}
		for _, name := range []string{"q_proj", "k_proj", "v_proj"} {
			l.linear("self_attn."+name, b.hidden, s.width, sharded)
		}
		l.linear("self_attn.out_proj", s.width, b.hidden, sharded)
		l.raw(mul(4, b.hidden)+2*mul(3, s.width), replicated) // norms and biases
		if feedForward {
			if strings.HasPrefix(b.text.str("feed_forward_proj"), "gated") {
				l.linear("fc0", b.hidden, s.feedForward, sharded)
			}
			l.linear("fc1", b.hidden, s.feedForward, sharded)
			l.linear("fc2", s.feedForward, b.hidden, sharded)
			l.raw(s.feedForward+b.hidden, replicated)
		}
		out.add(l.kind)
	}
	for i := range encoder.layers {
		add(encoder, "encoder", i, estimator.LayerKind{Kind: estimator.LayerStateless}, true)
	}
	dim := decoder.width / decoder.heads
	self := estimator.LayerKind{Kind: estimator.LayerAttention, Heads: decoder.heads, KVHeads: decoder.heads, KeyDim: dim, ValueDim: dim}
	cross := self
	cross.Kind, cross.CrossTokens = estimator.LayerCross, source
	for i := range decoder.layers {
		add(decoder, "decoder", i, self, true)
		add(decoder, "decoder", i, cross, false)
	}
	b.stems(m, source)
	return out
}

// stems adds what comes before the stacks: learned positions, and the two convolutions over a spectrogram.
func (b *builder) stems(m *estimator.Model, source int64) {
	elements := int64(0)
	if b.text.has("encoder_layers") { // BART, Whisper; T5 has a bias per head and distance instead
		elements = mul(b.hidden, source+m.ContextLength+4)
	}
	if b.text.has("max_source_positions") {
		elements += mul(3, b.hidden, b.text.intOr(128, "num_mel_bins")+b.hidden)
	}
	accumulate(&b.parameters, elements)
	accumulate(&m.OtherWeights, mul(elements, b.elementBytes))
}
