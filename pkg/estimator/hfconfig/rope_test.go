// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import "testing"

// TestTablesOfRotations: what engines make of rope_scaling and rope_parameters, in rows × columns.
func TestTablesOfRotations(t *testing.T) {
	const dims = `"hidden_size":256,"num_hidden_layers":2,"num_attention_heads":4,"head_dim":64,"vocab_size":100,"intermediate_size":64,"max_position_embeddings":1000`
	for _, tt := range []struct {
		name, config  string
		want, context int64
	}{
		{"plain rotations: a row for each position", `{"architectures":["LlamaForCausalLM"],` + dims + `}`, 1000 * 64, 1000},
		{
			"10 million positions of Llama 4 Scout are a table of 2.5 GiB",
			`{"architectures":["Llama4ForCausalLM"],"hidden_size":256,"num_hidden_layers":1,"num_attention_heads":2,"head_dim":128,"vocab_size":100,"intermediate_size":64,
			"max_position_embeddings":10485760,"rope_scaling":{"rope_type":"llama3","factor":16,"original_max_position_embeddings":8192}}`,
			10485760 * 128, 10485760,
		},
		{
			"linear scaling makes as many rows as the factor says",
			`{"architectures":["LlamaForCausalLM"],` + dims + `,"rope_scaling":{"type":"linear","factor":4}}`, 4 * 1000 * 64, 4000,
		},
		{
			"Gemma 3: a scaled table for the layers that see everything, one for windows, and a context that has the factor counted in",
			`{"architectures":["Gemma3ForConditionalGeneration"],"vision_config":{"hidden_size":8},"text_config":{"model_type":"gemma3_text",` + dims +
				`,"sliding_window":8,"sliding_window_pattern":2,"rope_scaling":{"rope_type":"linear","factor":8}}}`,
			(8*1000 + 1000) * 64, 1000,
		},
		{
			"Gemma 3 with images that leaves out its scaling has the one of all of them",
			`{"architectures":["Gemma3ForConditionalGeneration"],"vision_config":{"hidden_size":8},"text_config":{"model_type":"gemma3_text",` + dims +
				`,"sliding_window":8,"sliding_window_pattern":2}}`,
			(8*1000 + 1000) * 64, 1000,
		},
		{
			"Gemma 3 without images has none",
			`{"architectures":["Gemma3ForCausalLM"],` + dims + `,"sliding_window":8,"sliding_window_pattern":2}`, 2 * 1000 * 64, 1000,
		},
		{
			"rope_parameters by the type of layer",
			`{"architectures":["Gemma4ForCausalLM"],` + dims + `,"global_head_dim":128,"sliding_window":8,"sliding_window_pattern":2,"rope_parameters":{
			"full_attention":{"rope_type":"proportional","partial_rotary_factor":0.25},"sliding_attention":{"rope_type":"default"}}}`,
			1000*128 + 1000*64, 1000,
		},
		{
			"YaRN scales the original context",
			`{"architectures":["Qwen2ForCausalLM"],` + dims + `,"rope_scaling":{"rope_type":"yarn","factor":4,"original_max_position_embeddings":500}}`, 2000 * 64, 2000,
		},
		{
			"LongRoPE has a table for short contexts, too",
			`{"architectures":["Phi3ForCausalLM"],` + dims + `,"rope_scaling":{"type":"longrope"},"original_max_position_embeddings":100}`, 1100 * 64, 1000,
		},
		{
			"positions of images and videos run ahead: four times the rows; a quarter of the dimensions is rotated",
			`{"architectures":["Qwen3_5ForConditionalGeneration"],` + dims + `,"rope_parameters":{"rope_type":"default","mrope_section":[1,1,1],"partial_rotary_factor":0.25}}`,
			4 * 1000 * 16, 1000,
		},
		{"Qwen2.5-VL has such positions whatever it says", `{"architectures":["Qwen2_5_VLForConditionalGeneration"],` + dims + `}`, 4 * 1000 * 64, 1000},
		{
			"latent attention rotates its own dimensions",
			`{"architectures":["DeepseekV3ForCausalLM"],` + dims + `,"kv_lora_rank":512,"qk_rope_head_dim":32,"qk_nope_head_dim":64}`, 1000 * 32, 1000,
		},
		{"learned positions need no table", `{"architectures":["GPT2LMHeadModel"],` + dims + `}`, 0, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mustParse(t, tt.config)
			if m.RotaryElements != tt.want || m.ContextLength != tt.context {
				t.Errorf("%d elements and a context of %d, want %d and %d", m.RotaryElements, m.ContextLength, tt.want, tt.context)
			}
		})
	}
}
