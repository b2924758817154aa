// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
)

// TestWhatLayersKeep: fields that decide what a layer caches, by the configurations that use them.
func TestWhatLayersKeep(t *testing.T) {
	type kept struct {
		Kind                                estimator.LayerKindName
		KVHeads, KeyDim, ValueDim           int64
		Window, CrossTokens, Indexer, State int64
	}
	for _, tt := range []struct {
		name   string
		config string
		want   []kept
	}{
		{
			"MiMo V2: a pattern of windows, with heads of their own and narrower values",
			`{"architectures":["MiMoV2FlashForCausalLM"],"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":8,"num_key_value_heads":4,"head_dim":192,
			"v_head_dim":128,"intermediate_size":64,"vocab_size":100,"sliding_window":128,"swa_num_key_value_heads":8,"swa_head_dim":192,"swa_v_head_dim":128,"hybrid_layer_pattern":[0,1]}`,
			[]kept{{Kind: "attention", KVHeads: 4, KeyDim: 192, ValueDim: 128}, {Kind: "slidingWindow", KVHeads: 8, KeyDim: 192, ValueDim: 128, Window: 128}},
		},
		{
			"GLM 5.2: layers that share an earlier indexer's choice",
			`{"architectures":["GlmMoeDsaForCausalLM"],"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":8,"kv_lora_rank":512,"qk_rope_head_dim":64,
			"qk_nope_head_dim":128,"v_head_dim":128,"intermediate_size":64,"vocab_size":100,"index_head_dim":128,"index_n_heads":4,"indexer_types":["full","shared"]}`,
			[]kept{{Kind: "latent", KVHeads: 8, KeyDim: 192, ValueDim: 128, Indexer: 128}, {Kind: "latent", KVHeads: 8, KeyDim: 192, ValueDim: 128}},
		},
		{
			"Llama 3.2 Vision: layers that attend to 4 tiles of (560 / 14)² + 1 patches",
			`{"architectures":["MllamaForConditionalGeneration"],"text_config":{"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":8,"num_key_value_heads":2,
			"intermediate_size":64,"vocab_size":100,"cross_attention_layers":[1]},"vision_config":{"image_size":560,"patch_size":14,"max_num_tiles":4,"hidden_size":8}}`,
			[]kept{{Kind: "attention", KVHeads: 2, KeyDim: 8, ValueDim: 8}, {Kind: "cross", KVHeads: 2, KeyDim: 8, ValueDim: 8, CrossTokens: 6404}},
		},
		{
			"RecurrentGemma: types that repeat, and a window under another name",
			`{"architectures":["RecurrentGemmaForCausalLM"],"hidden_size":64,"num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":1,"head_dim":16,
			"intermediate_size":128,"vocab_size":100,"attention_window_size":2048,"block_types":["recurrent","attention"]}`,
			[]kept{{Kind: "recurrent", State: 64}, {Kind: "slidingWindow", KVHeads: 1, KeyDim: 16, ValueDim: 16, Window: 2048}, {Kind: "recurrent", State: 64}},
		},
		{
			"RWKV 7: a matrix of 64 × 16 for each sequence",
			`{"architectures":["RWKV7ForCausalLM"],"hidden_size":64,"num_hidden_layers":1,"head_dim":16,"intermediate_size":256,"vocab_size":100}`,
			[]kept{{Kind: "recurrent", State: 64 * 16}},
		},
		{
			"Mamba 2 of state-spaces, which names no class: 128 states of 2 × 64 channels",
			`{"d_model":64,"n_layer":1,"d_intermediate":0,"vocab_size":100,"ssm_cfg":{"layer":"Mamba2"},"tie_embeddings":true}`,
			[]kept{{Kind: "recurrent", State: 128 * 128}},
		},
		{
			"T5: an encoder that keeps nothing, and a decoder that keeps its own context and the encoder's",
			`{"architectures":["T5ForConditionalGeneration"],"d_model":64,"d_kv":16,"d_ff":128,"num_layers":1,"num_decoder_layers":1,"num_heads":2,"vocab_size":100}`,
			[]kept{{Kind: "stateless"}, {Kind: "attention", KVHeads: 2, KeyDim: 16, ValueDim: 16}, {Kind: "cross", KVHeads: 2, KeyDim: 16, ValueDim: 16, CrossTokens: 512}},
		},
		{
			"an unknown class of two stacks is read as one, not as half of it",
			`{"architectures":["NextYearForConditionalGeneration"],"d_model":64,"encoder_layers":1,"decoder_layers":1,"num_hidden_layers":1,"encoder_attention_heads":4,
			"decoder_attention_heads":4,"encoder_ffn_dim":128,"decoder_ffn_dim":128,"vocab_size":100,"max_source_positions":1500,"max_target_positions":448}`,
			[]kept{{Kind: "stateless"}, {Kind: "attention", KVHeads: 4, KeyDim: 16, ValueDim: 16}, {Kind: "cross", KVHeads: 4, KeyDim: 16, ValueDim: 16, CrossTokens: 1500}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mustParse(t, tt.config)
			var got []kept
			for i := range int(m.LayerCount) {
				k := m.KindOf(i)
				got = append(got, kept{k.Kind, k.KVHeads, k.KeyDim, k.ValueDim, k.Window, k.CrossTokens, k.IndexerDim, k.SSMState})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("layers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWeightsOfFieldsOnceUnread compares the weights with and without a field, in elements.
func TestWeightsOfFieldsOnceUnread(t *testing.T) {
	const dims = `"hidden_size":256,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":4,"vocab_size":100`
	for _, tt := range []struct {
		name, before, after string
		want                int64
	}{
		{
			// 384 × 2 / 3 = 256, a multiple of 64 already: three matrices of 128 columns less in two layers.
			"LFM2 adjusts the feed-forward width",
			`{"architectures":["Lfm2ForCausalLM"],` + dims + `,"intermediate_size":384}`,
			`{"architectures":["Lfm2ForCausalLM"],` + dims + `,"intermediate_size":384,"block_auto_adjust_ff_dim":true,"block_multiple_of":64}`,
			-2 * 3 * 256 * 128,
		},
		{
			"Gemma 4 doubles it where a layer shares a cache",
			`{"architectures":["Gemma4ForCausalLM"],` + dims + `,"intermediate_size":384,"num_kv_shared_layers":1}`,
			`{"architectures":["Gemma4ForCausalLM"],` + dims + `,"intermediate_size":384,"num_kv_shared_layers":1,"use_double_wide_mlp":true}`,
			3 * 256 * 384,
		},
		{
			// A block of 4 × 64² + 2 × 64 × 256 + 10 × 64, convolutions of 3 × 64 × (128 + 64), 1500 positions, a projector of
			// 4 × 64 × 256 + 256².
			"an audio tower without an image tower",
			`{"architectures":["VoxtralForConditionalGeneration"],"text_config":{` + dims + `,"intermediate_size":384}}`,
			`{"architectures":["VoxtralForConditionalGeneration"],"text_config":{` + dims + `,"intermediate_size":384},"audio_config":{"hidden_size":64,"num_hidden_layers":1}}`,
			4*64*64 + 2*64*256 + 10*64 + 3*64*(128+64) + 1500*64 + 4*64*256 + 256*256,
		},
		{
			// 2 × (4 × 64² + 3 × 64 × 128) and a projection of 64 × 256.
			"a part of an unknown class that nobody knows",
			`{"architectures":["NextYearForCausalLM"],` + dims + `,"intermediate_size":384}`,
			`{"architectures":["NextYearForCausalLM"],` + dims + `,"intermediate_size":384,"smell_config":{"hidden_size":64,"num_hidden_layers":2,"intermediate_size":128}}`,
			2*(4*64*64+3*64*128) + 64*256,
		},
		{
			"BitNet's gate stays beside its squared activation",
			`{"architectures":["NemotronForCausalLM"],` + dims + `,"intermediate_size":384,"hidden_act":"relu2","tie_word_embeddings":true}`,
			`{"architectures":["BitNetForCausalLM"],` + dims + `,"intermediate_size":384,"hidden_act":"relu2","tie_word_embeddings":true}`,
			2 * 256 * 384,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustParse(t, tt.after).Parameters - mustParse(t, tt.before).Parameters; got != tt.want {
				t.Errorf("%d parameters more, want %d", got, tt.want)
			}
		})
	}
}

// TestExpertsByNumber: MiniMax M3 lists its experts' matrices as w1, w2 and w3.
func TestExpertsByNumber(t *testing.T) {
	const config = `{"architectures":["MiniMaxM3SparseForConditionalGeneration"],"hidden_size":256,"num_hidden_layers":1,"num_attention_heads":4,"num_key_value_heads":4,
		"intermediate_size":128,"vocab_size":100,"num_local_experts":2,"num_experts_per_tok":1,"quantization_config":{"quant_method":"modelopt","quant_algo":"MIXED_PRECISION","quantized_layers":{`
	const list = `"model.layers.0.block_sparse_moe.experts.0.w1":{"quant_algo":"NVFP4"},"model.layers.0.block_sparse_moe.experts.0.w2":{"quant_algo":"NVFP4"},"model.layers.0.block_sparse_moe.experts.0.w3":{"quant_algo":"NVFP4"}`
	m := mustParse(t, config+list+`}}}`)
	// Two experts of three matrices of 256 × 128, half a byte and a sixteenth each.
	if got, want := m.Layers[0].Weights.Experts, int64(2*3*256*128*9/16); got != want || m.UnknownArchitecture {
		t.Errorf("experts of %d bytes, want %d (unknown architecture: %t)", got, want, m.UnknownArchitecture)
	}
}

// TestContextOfTwoStacks: Whisper's decoder has a limit, T5's relative positions have none, so that no context is too
// long for it.
func TestContextOfTwoStacks(t *testing.T) {
	const dims = `"d_model":64,"encoder_layers":1,"decoder_layers":1,"num_layers":1,"num_heads":4,"encoder_attention_heads":4,"decoder_attention_heads":4,"d_ff":128,"vocab_size":100`
	for config, want := range map[string]int64{
		`{"architectures":["WhisperForConditionalGeneration"],` + dims + `,"max_source_positions":1500,"max_target_positions":448}`: 448,
		`{"architectures":["T5ForConditionalGeneration"],` + dims + `}`:                                                             0,
	} {
		if got := mustParse(t, config).ContextLength; got != want {
			t.Errorf("%s: a context of %d, want %d", config, got, want)
		}
	}
}

func TestAnUnknownClassWithoutHeadsIsRefused(t *testing.T) {
	_, err := Parse(t.Context(), []byte(`{"architectures":["NextYearForCausalLM"],"hidden_size":1024,"num_hidden_layers":2,"vocab_size":1000}`), nil)
	if err == nil || !strings.Contains(err.Error(), "NextYearForCausalLM") || !strings.Contains(err.Error(), "berth.dev/gpu-memory") {
		t.Errorf("error %v, want one that names the class and says what to do", err)
	}
}
