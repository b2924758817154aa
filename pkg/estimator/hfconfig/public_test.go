// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"math"
	"testing"
)

// TestParametersOfPublicModels compares with the published number of parameters (those of the part that is loaded),
// for kinds of models whose configurations say less or other than what their fields are called.
func TestParametersOfPublicModels(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		billions     float64
		kvPerToken   int64 // elements of keys and values of all layers, zero: not compared
	}{
		{
			"Gemma 3n E4B: a tower of convolutions",
			`{"architectures":["Gemma3nForConditionalGeneration"],"text_config":{"hidden_size":2048,"intermediate_size":16384,"num_hidden_layers":35,
			"num_attention_heads":8,"num_key_value_heads":2,"head_dim":256,"vocab_size":262400,"vocab_size_per_layer_input":262144,"hidden_size_per_layer_input":256,
			"num_kv_shared_layers":15,"altup_num_inputs":4,"laurel_rank":64},"audio_config":{"hidden_size":1536,"conf_num_hidden_layers":12},"vision_config":{"model_type":"gemma3n_vision","hidden_size":2048}}`,
			7.85, 20 * 2 * 2 * 256,
		},
		{
			"Phi-4 multimodal: an image tower that nothing names, audio under another name; its adapters are not loaded",
			`{"architectures":["Phi4MMForCausalLM"],"hidden_size":3072,"intermediate_size":8192,"num_hidden_layers":32,"num_attention_heads":24,"num_key_value_heads":8,
			"vocab_size":200064,"tie_word_embeddings":true,"audio_processor":{"config":{"attention_dim":1024,"num_blocks":24,"linear_units":1536}}}`,
			3.836 + 0.44 + 0.46, 0,
		},
		{
			"Phi-3.5 vision: a tower that is only named",
			`{"architectures":["Phi3VForCausalLM"],"hidden_size":3072,"intermediate_size":8192,"num_hidden_layers":32,"num_attention_heads":32,"vocab_size":32064,
			"tie_word_embeddings":false,"img_processor":{"image_dim_out":1024,"model_name":"openai/clip-vit-large-patch14-336"}}`,
			4.147, 0,
		},
		{
			"LFM2 8B-A1B: dense layers before the experts",
			`{"architectures":["Lfm2MoeForCausalLM"],"hidden_size":2048,"intermediate_size":7168,"moe_intermediate_size":1792,"num_dense_layers":2,"num_experts":32,
			"num_experts_per_tok":4,"num_hidden_layers":24,"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":65536,"full_attn_idxs":[2,6,10,14,18,21]}`,
			8.34, 6 * 2 * 8 * 64,
		},
		{
			"GLM-4.1V: the width of the projector in the tower's configuration",
			`{"architectures":["Glm4vForConditionalGeneration"],"hidden_size":4096,"intermediate_size":13696,"num_hidden_layers":40,"num_attention_heads":32,
			"num_key_value_heads":2,"attention_bias":true,"vocab_size":151552,"tie_word_embeddings":false,"vision_config":{"hidden_size":1536,"depth":24,"num_heads":12,
			"intermediate_size":13696,"hidden_act":"silu","patch_size":14,"out_hidden_size":4096,"spatial_merge_size":2,"temporal_patch_size":2}}`,
			10.29, 0,
		},
		{
			"LLaVA 1.5: a language model with the dimensions of its class",
			`{"architectures":["LlavaForConditionalGeneration"],"text_config":{"model_type":"llama","vocab_size":32064},"vision_config":{"hidden_size":1024,
			"intermediate_size":4096,"num_attention_heads":16,"num_hidden_layers":24,"image_size":336,"patch_size":14}}`,
			7.06, 32 * 2 * 4096,
		},
		{
			"Apertus: an activation without a gate",
			`{"architectures":["ApertusForCausalLM"],"hidden_size":4096,"intermediate_size":21504,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,
			"vocab_size":131072,"hidden_act":"xielu","tie_word_embeddings":false}`,
			8.05, 0,
		},
		{
			"LongCat-Flash: two attentions in a layer, and experts without weights",
			`{"architectures":["LongcatFlashForCausalLM"],"hidden_size":6144,"ffn_hidden_size":12288,"expert_ffn_hidden_size":2048,"num_layers":28,
			"num_attention_heads":64,"kv_lora_rank":512,"q_lora_rank":1536,"qk_nope_head_dim":128,"qk_rope_head_dim":64,"v_head_dim":128,"n_routed_experts":512,
			"zero_expert_num":256,"moe_topk":12,"vocab_size":131072}`,
			560, 56 * 576,
		},
		{
			"Falcon 7B: one key/value head, whatever their number",
			`{"architectures":["FalconForCausalLM"],"hidden_size":4544,"num_hidden_layers":32,"num_attention_heads":71,"num_kv_heads":71,"vocab_size":65024,
			"multi_query":true,"new_decoder_architecture":false}`,
			6.92, 32 * 2 * 64,
		},
		{
			"Falcon 40B: the number counts in its architecture",
			`{"architectures":["FalconForCausalLM"],"hidden_size":8192,"num_hidden_layers":60,"num_attention_heads":128,"num_kv_heads":8,"vocab_size":65024,
			"multi_query":true,"new_decoder_architecture":true}`,
			41.3, 60 * 2 * 8 * 64,
		},
		{
			"Hunyuan A13B: a number for each layer",
			`{"architectures":["HunYuanMoEV1ForCausalLM"],"hidden_size":4096,"intermediate_size":3072,"moe_intermediate_size":[3072,3072],"num_hidden_layers":32,
			"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,"vocab_size":128167,"num_experts":64,"num_shared_expert":[1,1],"moe_topk":[8,8],
			"tie_word_embeddings":true}`,
			80.4, 0,
		},
		{
			"OPT 350m: embeddings narrower than the model",
			`{"architectures":["OPTForCausalLM"],"hidden_size":1024,"ffn_dim":4096,"num_hidden_layers":24,"num_attention_heads":16,"vocab_size":50272,
			"max_position_embeddings":2048,"word_embed_proj_dim":512}`,
			0.331, 0,
		},
		{
			"Gemma 4 E2B: gates of per-layer embeddings, a conformer that only its name tells",
			`{"architectures":["Gemma4ForConditionalGeneration"],"text_config":{"hidden_size":1536,"intermediate_size":6144,"num_hidden_layers":35,"num_attention_heads":8,
			"num_key_value_heads":1,"head_dim":256,"global_head_dim":512,"vocab_size":262144,"vocab_size_per_layer_input":262144,"hidden_size_per_layer_input":256,
			"num_kv_shared_layers":20,"sliding_window":512,"sliding_window_pattern":5,"use_double_wide_mlp":true},"vision_config":{"hidden_size":768,"intermediate_size":3072,
			"num_hidden_layers":16,"num_attention_heads":12,"patch_size":16},"audio_config":{"hidden_size":1024,"num_hidden_layers":12,"model_type":"gemma4_audio"}}`,
			5.12, 3*2*512 + 12*2*256,
		},
		{
			"Llama 3.2 Vision: a second stack of layers in the tower",
			`{"architectures":["MllamaForConditionalGeneration"],"text_config":{"hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":40,"num_attention_heads":32,
			"num_key_value_heads":8,"vocab_size":128256,"cross_attention_layers":[3,8,13,18,23,28,33,38]},"vision_config":{"hidden_size":1280,"image_size":560,
			"intermediate_size":5120,"num_hidden_layers":32,"num_global_layers":8,"attention_heads":16,"patch_size":14,"max_num_tiles":4}}`,
			10.67, 0,
		},
		{
			"PaliGemma 2: embeddings tied by the class of the language model in it",
			`{"architectures":["PaliGemmaForConditionalGeneration"],"text_config":{"model_type":"gemma2","hidden_size":2304,"intermediate_size":9216,"num_hidden_layers":26,
			"num_attention_heads":8,"num_key_value_heads":4,"head_dim":256,"vocab_size":257216},"vision_config":{"hidden_size":1152,"intermediate_size":4304,
			"num_attention_heads":16,"num_hidden_layers":27,"patch_size":14,"image_size":224}}`,
			3.03, 0,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mustParse(t, tt.config)
			if got := float64(m.Parameters) / 1e9; math.Abs(got-tt.billions) > 0.0125*tt.billions || m.UnknownArchitecture {
				t.Errorf("%.3f billion parameters, want %.3f (unknown architecture: %t)", got, tt.billions, m.UnknownArchitecture)
			}
			var kv int64
			for i := range m.Layers {
				k := &m.Layers[i]
				each := mul(k.KVHeads, k.KeyDim+k.ValueDim)
				if k.LatentDim > 0 {
					each = k.LatentDim
				}
				kv += int64(k.Count) * each
			}
			if tt.kvPerToken > 0 && kv != tt.kvPerToken {
				t.Errorf("%d elements of keys and values a token, want %d", kv, tt.kvPerToken)
			}
		})
	}
}

// TestExpertsOfATokenInAList: the workspaces of experts follow the most that any layer visits.
func TestExpertsOfATokenInAList(t *testing.T) {
	m := mustParse(t, `{"architectures":["HunYuanMoEV1ForCausalLM"],"hidden_size":64,"intermediate_size":64,"num_hidden_layers":2,"num_attention_heads":2,
		"vocab_size":100,"num_experts":8,"moe_topk":[2,4],"num_shared_expert":[1,1]}`)
	if m.Experts.Used != 4 || m.Experts.SharedFeedForward != 64 {
		t.Errorf("%+v, want 4 experts of a token and a shared one of 64", m.Experts)
	}
}

// TestEmbeddingsTiedByTheClass: configurations leave out what their class says already (transformers,
// configuration_smollm3.py, configuration_ernie4_5_moe.py).
func TestEmbeddingsTiedByTheClass(t *testing.T) {
	const dims = `"hidden_size":64,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":64,"vocab_size":100`
	for class, want := range map[string]bool{"SmolLM3ForCausalLM": true, "Ernie4_5_MoeForCausalLM": true, "Gemma2ForCausalLM": true, "LlamaForCausalLM": false} {
		m := mustParse(t, `{"architectures":["`+class+`"],`+dims+`}`)
		if m.TiedEmbeddings != want || (m.Output == 0) != want {
			t.Errorf("%s: tied %t, output of %d bytes; want tied %t", class, m.TiedEmbeddings, m.Output, want)
		}
		if m := mustParse(t, `{"architectures":["`+class+`"],`+dims+`,"tie_word_embeddings":false}`); m.TiedEmbeddings {
			t.Errorf("%s is tied although it says that it is not", class)
		}
	}
}
