// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"encoding/json"
	"strings"
)

// traits are what an architecture does that its config.json does not say.
type traits struct {
	// defaults are the values of its configuration class for fields that configurations leave out.
	defaults fields
	// attentionName and the others are the modules' names in the checkpoint, as quantization configs use them.
	attentionName, feedForwardName, expertsName, sharedExpertsName, mixerName string
	// normsPerLayer is the vectors of hidden size of one layer.
	normsPerLayer int64
	// defaultVision is the tower that the configuration class brings, empty for none.
	defaultVision string
	// windowPeriod: every windowPeriod-th layer attends to everything, the others to a window.
	windowPeriod           int64
	sharedExpertsByDefault int64
	// ropeFactor is the factor of linear RoPE scaling in every published checkpoint with an image tower, taken where a
	// configuration leaves it out.
	ropeFactor int64
	// blocks caches DeciLM's list of layers.
	blocks []fields

	tiedByDefault      bool // output and embedding share one matrix unless said otherwise
	ungated            bool // feed-forward of two matrices
	gatedAttention     bool // the query projection brings an output gate
	attentionBias      bool
	multiQueryDefault  bool // one key/value head unless said otherwise
	encoder            bool // no output layer
	learnedPositions   bool
	lightning          bool // attn_type_list tells linear from full attention
	recurrentOnly      bool // no attention at all
	mamba2             bool
	parallelMambaOnly  bool // every layer has attention and Mamba side by side
	windowedThroughout bool // sliding_window holds for every layer
	windowOptIn        bool // sliding_window holds only with use_sliding_window
	oneHalfPerLayer    bool // a layer is either mixer or feed-forward
	noFeedForward      bool
	denseBesideExperts bool // a dense feed-forward layer runs beside the experts
	expertBias         bool
	halvedWidth        bool // intermediate_size counts gate and up together
	encoderDecoder     bool // two stacks; the decoder attends to the encoder's result, too
	rwkv               bool // time mixing instead of attention
	gatedAlways        bool // a gate whatever the activation
	widerProjector     bool // the image tower's intermediate_size is that of the projector
	twoAttentions      bool // a layer attends twice, each time with a dense feed-forward layer, and has experts once
	multimodalRope     bool // positions of images have a height and a width
	fourTimesHidden    bool // the feed-forward width is 4 × hidden unless said otherwise
}

// set gives the defaults of the configuration class; the literals of this file are all valid.
func (t *traits) set(defaults string) {
	var f fields
	if json.Unmarshal([]byte(defaults), &f) == nil {
		t.defaults = f
	}
}

// traitsOf returns the traits of an architecture by its class or, failing that, its model types, and whether one
// of them is known.
func traitsOf(names ...string) (traits, bool) {
	t := traits{
		attentionName: "self_attn", feedForwardName: "mlp", expertsName: "mlp.experts",
		sharedExpertsName: "mlp.shared_expert", mixerName: "mamba", normsPerLayer: 2,
	}
	for _, name := range names {
		key := normalise(name)
		if apply, ok := architectures[key]; ok {
			apply(&t)
			return t, true
		}
	}
	return t, false
}

// normalise reduces "Qwen3_5MoeForConditionalGeneration" and "qwen3_5_moe_text" to "qwen35moe".
func normalise(name string) string {
	for _, suffix := range []string{
		"ForConditionalGeneration", "ForCausalLM", "ForSequenceClassification", "ForRewardModel", "ForMaskedLM",
		"LMHeadModel", "ForEmbedding", "ForTextEncoding", "ForImageTextToText", "Model",
	} {
		if cut, ok := strings.CutSuffix(name, suffix); ok && cut != "" {
			name = cut
			break
		}
	}
	name = strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(name))
	if cut, ok := strings.CutSuffix(name, "text"); ok && cut != "" && cut != "minimax" {
		name = cut
	}
	return name
}
