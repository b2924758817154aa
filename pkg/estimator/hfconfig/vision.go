// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import "github.com/berth-dev/berth/pkg/estimator"

// towers returns the image and audio towers of a multimodal model, nil for a text model.
func (b *builder) towers() *estimator.Vision { return b.audioTower(b.vision()) }

// vision returns the image tower, nil for a model without one.
//
// Towers are plain transformers: four square projections and a feed-forward layer per block, a patch embedding, and
// a projector into the language model's width. vLLM shards them like the language model.
func (b *builder) vision() *estimator.Vision {
	v := b.root.sub("vision_config", "visual", "vision_tower_config")
	if v == nil {
		v = b.root.sub("img_processor")
		if v.int("hidden_size", "num_hidden_layers") == 0 && b.defaultVision != "" {
			v = nil // it only names its class (Phi-3 Vision)
		}
	}
	if v == nil && b.defaultVision != "" {
		v, _ = parse([]byte(b.defaultVision)) // a literal of this package
	}
	if v == nil {
		return nil
	}
	if v.str("model_type") == "gemma3n_vision" {
		return b.mobileNet()
	}
	out := &estimator.Vision{
		HiddenSize:  v.int("hidden_size", "vt_hidden_size", "embed_dim", "width"),
		Layers:      v.int("num_hidden_layers", "depth", "vt_num_hidden_layers", "layers"),
		Heads:       v.int("num_attention_heads", "num_heads", "vt_num_attention_heads"),
		FeedForward: v.int("intermediate_size", "vt_intermediate_size"),
	}
	if v.str("model_type") == "qwen2_vl" || v.int("embed_dim") > 0 && v.has("mlp_ratio") {
		out.HiddenSize = v.intOr(out.HiddenSize, "embed_dim") // its hidden_size is the language model's
	}
	if out.HiddenSize == 0 {
		out.HiddenSize = 1152 // SigLIP-so400m, the tower of most models that leave it to their class's defaults
	}
	if out.Layers == 0 {
		out.Layers = 27
	}
	out.Layers += v.int("num_global_layers") // Llama 3.2
	if out.FeedForward == 0 {
		if ratio, ok := v.number("mlp_ratio"); ok && ratio > 0 && ratio < 64 {
			out.FeedForward = int64(ratio * float64(out.HiddenSize))
		} else {
			out.FeedForward = mul(4, out.HiddenSize)
		}
	}
	if b.widerProjector {
		out.FeedForward = v.intOr(out.FeedForward, "out_hidden_size") // intermediate_size is the projector's
	}
	gate := int64(2)
	if v.str("hidden_act") == "silu" || v.str("hidden_activation") == "gelu_pytorch_tanh" {
		gate = 3
	}
	block := mul(4, out.HiddenSize, out.HiddenSize) + mul(gate, out.HiddenSize, out.FeedForward) + mul(4, out.HiddenSize)
	elements := mul(block, out.Layers) + b.projector(v, out.HiddenSize)
	patch := v.intOr(14, "patch_size", "spatial_patch_size")
	elements += mul(3*v.intOr(1, "temporal_patch_size"), patch, patch, out.HiddenSize)
	elements += mul(v.int("num_position_embeddings", "position_embedding_size"), out.HiddenSize)
	accumulate(&b.parameters, elements)
	out.Sharded = mul(elements, 2)
	if size := v.int("image_size"); size > 0 && patch > 0 {
		side := ceilDiv(size, patch)
		out.MaxPatches = mul(side, side)
	}
	return out
}

// mobileNet is Gemma 3n's tower, MobileNet V5 with 300 million parameters: convolutions whose shapes the configuration
// does not have (transformers, configuration_gemma3n.py).
func (b *builder) mobileNet() *estimator.Vision {
	const elements = 300_000_000
	accumulate(&b.parameters, elements)
	return &estimator.Vision{Sharded: 2 * elements}
}

// projector returns the elements between tower and language model: a two-layer perceptron over merged patches,
// one more for each level of features handed on (Qwen3-VL's deepstack).
func (b *builder) projector(v fields, hidden int64) int64 {
	merge := v.intOr(1, "spatial_merge_size")
	if kernel := v.ints("merge_kernel_size"); len(kernel) == 2 {
		merge = kernel[0]
	}
	merge = min(max(merge, b.root.intOr(1, "spatial_merge_size")), 16)
	in := mul(hidden, merge, merge)
	out := v.intOr(b.hidden, "out_hidden_size", "text_hidden_size", "projection_dim")
	if v.str("model_type") == "qwen2_vl" {
		out = b.hidden
	}
	if b.widerProjector { // vllm/model_executor/models/glm4_1v.py, Glm4vPatchMerger
		return mul(in, out) + mul(out, out) + mul(3, out, v.int("intermediate_size"))
	}
	middle := in
	if merge == 1 {
		middle = out
	}
	levels := int64(1 + min(len(v.ints("deepstack_visual_indexes")), 64))
	return mul(mul(in, middle)+mul(middle, out), levels)
}
