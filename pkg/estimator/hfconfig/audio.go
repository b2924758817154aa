// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// audioElements returns the weights of an audio tower and its projector, zero without one. Towers are Whisper's
// encoder or close to it: square projections and an ungated feed-forward layer per block, two convolutions over the
// spectrogram, learned positions; conformers (Gemma, Phi-4) have a second feed-forward layer and convolutions of twice
// the width.
func (b *builder) audioElements() int64 {
	a := b.root.sub("audio_config", "speech_config", "audio_encoder_config", "sound_config")
	if a == nil {
		a = b.root.sub("audio_processor").sub("config") // Phi-4
	}
	if a == nil {
		return 0
	}
	if inner := a.sub("encoder_config"); inner != nil {
		a = inner.over(a)
	}
	width := a.int("hidden_size", "d_model", "hidden_dim", "attention_dim")
	layers := a.int("num_hidden_layers", "encoder_layers", "conf_num_hidden_layers", "num_layers", "num_blocks")
	if width == 0 || layers == 0 {
		// Its class has defaults that are not written here: Whisper-large's.
		b.assume("audio_config", 0)
		width, layers = max(width, 1280), max(layers, 32)
	}
	feedForward := a.intOr(mul(4, width), "intermediate_size", "encoder_ffn_dim", "linear_units")
	block := mul(4, width, width) + mul(2, width, feedForward) + mul(10, width)
	if a.has("conf_num_hidden_layers", "conv_kernel_size", "conf_conv_kernel_size", "num_blocks") || strings.HasPrefix(a.str("model_type"), "gemma") {
		block += mul(2, width, feedForward) + mul(3, width, width)
	}
	if a.has("linear_units") {
		block += mul(2, width, feedForward) // its two feed-forward layers have gates (Phi-4)
	}
	elements := mul(block, layers)
	elements += mul(3, width, a.intOr(128, "num_mel_bins", "input_feat_size")+width) + mul(a.intOr(1500, "max_source_positions"), width)
	// The projector merges up to four frames (Voxtral, Ultravox) on the way to the language model's width.
	return elements + mul(4, width, b.hidden) + mul(b.hidden, b.hidden)
}

// readConfigs are the parts of a configuration that are read, or whose weights are not loaded for answers in text.
var readConfigs = []string{
	"text_config", "llm_config", "language_config", "llm", "thinker_config", "vision_config", "visual", "vision_tower_config", "img_processor",
	"audio_config", "speech_config", "audio_encoder_config", "sound_config", "quantization_config", "compression_config",
}

// unreadElements returns the weights of parts of a configuration that are not known, where the architecture is not
// either: whatever has a width and layers is taken for a gated transformer.
func (b *builder) unreadElements() int64 {
	if b.known || b.twoStacks() {
		return 0
	}
	var sum int64
	for name := range b.root {
		part := b.root.sub(name)
		width, layers := part.int("hidden_size", "d_model", "embed_dim", "dim"), part.int("num_hidden_layers", "num_layers", "n_layers", "depth", "encoder_layers")
		if slices.Contains(readConfigs, name) || width == 0 || layers == 0 {
			continue
		}
		b.assume(name, 0)
		block := mul(4, width, width) + mul(3, width, part.intOr(mul(4, width), "intermediate_size", "ffn_dim", "encoder_ffn_dim"))
		sum += mul(block, layers) + mul(width, b.hidden) + mul(part.int("vocab_size"), width)
	}
	return sum
}

// audioTower adds the audio tower, and parts that are not known, to the tower of images, or makes one of them alone.
func (b *builder) audioTower(v *estimator.Vision) *estimator.Vision {
	elements := b.audioElements() + b.unreadElements()
	if elements == 0 {
		return v
	}
	if v == nil {
		v = &estimator.Vision{}
	}
	accumulate(&b.parameters, elements)
	accumulate(&v.Sharded, mul(elements, 2))
	return v
}
