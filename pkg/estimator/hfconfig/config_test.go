// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
)

// weightBytes returns all weights but those of the draft.
func weightBytes(m *estimator.Model) int64 {
	sum := m.Embedding + m.Output + m.OtherWeights
	for _, k := range m.Layers {
		sum += int64(k.Count) * (k.Weights.Sharded + k.Weights.KV + k.Weights.Experts + k.Weights.Replicated)
	}
	if m.Vision != nil {
		sum += m.Vision.Sharded + m.Vision.Replicated
	}
	return sum
}

func mustParse(t testing.TB, config string) *estimator.Model {
	t.Helper()
	m, err := Parse(t.Context(), []byte(config), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestParameters compares with the parameter counts that the models' cards state.
func TestParameters(t *testing.T) {
	tests := []struct {
		name     string
		config   string
		billions float64
	}{
		{"Llama 3.1 8B", `{"architectures":["LlamaForCausalLM"],"hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"intermediate_size":14336,"vocab_size":128256}`, 8.03},
		{"Mixtral 8x7B", `{"architectures":["MixtralForCausalLM"],"hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,"intermediate_size":14336,"vocab_size":32000}`, 46.7},
		{"DeepSeek-V2-Lite", `{"architectures":["DeepseekV2ForCausalLM"],"hidden_size":2048,"num_hidden_layers":27,"num_attention_heads":16,"kv_lora_rank":512,"qk_rope_head_dim":64,"qk_nope_head_dim":128,"v_head_dim":128,"intermediate_size":10944,"moe_intermediate_size":1408,"n_routed_experts":64,"n_shared_experts":2,"first_k_dense_replace":1,"vocab_size":102400}`, 15.7},
		{"Gemma 2 9B, tied", `{"architectures":["Gemma2ForCausalLM"],"hidden_size":3584,"num_hidden_layers":42,"num_attention_heads":16,"num_key_value_heads":8,"intermediate_size":14336}`, 9.24},
		{"Phi-2, ungated", `{"architectures":["PhiForCausalLM"],"hidden_size":2560,"num_hidden_layers":32,"num_attention_heads":32,"intermediate_size":10240,"vocab_size":51200}`, 2.78},
		{"GPT-2, old names", `{"architectures":["GPT2LMHeadModel"],"n_embd":768,"n_layer":12,"n_head":12,"n_positions":1024,"vocab_size":50257}`, 0.124},
		{"Falcon 7B, multi-query", `{"architectures":["FalconForCausalLM"],"hidden_size":4544,"num_hidden_layers":32,"num_attention_heads":71,"multi_query":true,"vocab_size":65024}`, 6.92},
		{"Jamba, hybrid mixture", `{"architectures":["JambaForCausalLM"],"hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"intermediate_size":14336,"vocab_size":65536,"attn_layer_period":8,"attn_layer_offset":4,"expert_layer_period":2,"expert_layer_offset":1,"num_experts":16,"num_experts_per_tok":2,"mamba_d_state":16,"mamba_expand":2}`, 51.6},
		{"Mamba 2.8B", `{"architectures":["MambaForCausalLM"],"hidden_size":2560,"num_hidden_layers":64,"state_size":16,"vocab_size":50280}`, 2.77},
		{"BERT base", `{"architectures":["BertModel"],"hidden_size":768,"num_hidden_layers":12,"num_attention_heads":12,"intermediate_size":3072,"vocab_size":30522,"max_position_embeddings":512}`, 0.109},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := mustParse(t, tt.config)
			if got := float64(m.Parameters) / 1e9; math.Abs(got-tt.billions) > 0.015*tt.billions {
				t.Errorf("%.3fB parameters, the card says %.3fB", got, tt.billions)
			}
			if m.UnknownArchitecture {
				t.Error("marked as unknown")
			}
		})
	}
}

// TestPublicConfigurations reads every public configuration of the data folder.
func TestPublicConfigurations(t *testing.T) {
	dir := os.Getenv("BERTH_DATA")
	if dir == "" {
		t.Skip("BERTH_DATA is not set: no public configurations")
	}
	files, err := filepath.Glob(filepath.Join(dir, "model-configs", "*_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_hf_quant_config.json") {
			continue
		}
		read++
		t.Run(strings.TrimSuffix(filepath.Base(file), "_config.json"), func(t *testing.T) { readPublic(t, file) })
	}
	if read < 50 {
		t.Errorf("%d configurations in %s", read, dir)
	}
}

// publishedParameters are the counts of model cards, in billions: of the kinds that were wrong or refused once.
var publishedParameters = map[string]float64{
	"openai--whisper-large-v3": 1.543, "google--flan-t5-xl": 2.85, "mistralai--Voxtral-Mini-3B": 4.68, "allenai--Molmo-7B-D": 8.02,
	"GSAI-ML--LLaDA-8B": 8.02, "LiquidAI--LFM2-1.2B": 1.17, "microsoft--bitnet-b1.58-2B-4T": 2.41, "state-spaces--mamba2-2.7b": 2.70,
	"RWKV--v7-Goose": 2.95, "google--recurrentgemma-9b": 8.6, "bigscience--bloom": 176.2, "BAAI--bge-m3": 0.568,
	"answerdotai--ModernBERT-base": 0.149, "XiaomiMiMo--MiMo-V2-Flash": 309, "meta--Llama-3.2-90B-Vision": 88.6,
}

func readPublic(t *testing.T, file string) {
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	quant, _ := os.ReadFile(strings.TrimSuffix(file, "config.json") + "hf_quant_config.json")
	m, err := Parse(t.Context(), config, quant)
	if err != nil {
		t.Fatal(err)
	}
	if m.UnknownArchitecture {
		t.Errorf("%s is not known", m.Architecture)
	}
	name := strings.TrimSuffix(filepath.Base(file), "_config.json")
	t.Logf("%.3fB parameters, %d bytes of weights", float64(m.Parameters)/1e9, weightBytes(m))
	if want := publishedParameters[name]; want > 0 {
		if got := float64(m.Parameters) / 1e9; got < want*0.98 || got > want*1.03 {
			t.Errorf("%.3fB parameters, published are %.3fB", got, want)
		}
	}
	if data, _ := json.Marshal(m); len(data) > 8<<10 {
		t.Errorf("the model takes %d bytes as JSON", len(data))
	}
	// Between 0.4 bytes a weight (4 bits with shared scales, and mixtures of types) and those of the model's own type.
	perWeight, most := float64(weightBytes(m))/float64(m.Parameters), 2.1
	if m.DType == "float32" {
		most = 4.1
	}
	if perWeight < 0.4 || perWeight > most {
		t.Errorf("%.2f bytes per weight (%s)", perWeight, m.Quantization)
	}
	r, err := estimator.Estimate(m, estimator.Settings{Runtime: estimator.RuntimeVLLM, ContextLength: 8192}, []int{1, 2, 4, 8}, estimator.DeviceInfo{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Options) == 0 || r.Fallback {
		t.Errorf("%d options, fallback %v, refused %+v", len(r.Options), r.Fallback, r.Refused)
	}
	for _, o := range r.Options {
		if o.KVBytesPerToken <= 0 && !m.Cacheless || o.Devices[0].Total <= 0 {
			t.Errorf("an option of nothing: %+v", o)
		}
	}
}

// TestQuantizationThatIsNotKnown: the estimate is an upper bound, and marked as such.
func TestQuantizationThatIsNotKnown(t *testing.T) {
	const dims = `"architectures":["Qwen3ForCausalLM"],"hidden_size":64,"num_hidden_layers":1,"num_attention_heads":1,"intermediate_size":64,"vocab_size":100`
	for method, want := range map[string]bool{"hqq": true, "torchao": true, "fp8": false, "compressed-tensors": false, "modelopt": false} {
		m := mustParse(t, `{`+dims+`,"quantization_config":{"quant_method":"`+method+`"}}`)
		if m.UnknownArchitecture != want {
			t.Errorf("%s: marked as not known: %t, want %t", method, m.UnknownArchitecture, want)
		}
	}
}

func TestQuantization(t *testing.T) {
	const dims = `"architectures":["Qwen3ForCausalLM"],"hidden_size":1024,"num_hidden_layers":2,"num_attention_heads":8,"num_key_value_heads":8,"head_dim":128,"intermediate_size":2048,"vocab_size":1000`
	// Two layers of four square matrices of 1024 and three of 1024 × 2048; embedding and output of 1000 rows.
	const linear, tables, norms = 2 * (4*1024*1024 + 3*1024*2048), 2 * 1000 * 1024 * 2, (2*2 + 1) * 1024 * 2
	tests := []struct {
		name   string
		config string
		quant  string
		linear int64
	}{
		{"none", `{` + dims + `}`, "", 2 * linear},
		{"FP8 with a scale per 128 × 128", `{` + dims + `,"quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}}`, "", linear + linear/(128*128)*4},
		{"AWQ, 4 bits with 16-bit scales and 4-bit zeros per 128", `{` + dims + `,"quantization_config":{"quant_method":"awq","bits":4,"group_size":128}}`, "", linear/2 + linear/128*2 + linear/128/2},
		{"NVFP4 from ModelOpt's own file", `{` + dims + `}`, `{"quantization":{"quant_algo":"NVFP4","kv_cache_quant_algo":"FP8"}}`, linear/2 + linear/16},
		{"MXFP4 from compressed-tensors", `{` + dims + `,"quantization_config":{"quant_method":"compressed-tensors","format":"mxfp4-pack-quantized","config_groups":{"g":{"targets":["Linear"],"weights":{"num_bits":4,"type":"float","group_size":32}}}}}`, "", linear/2 + linear/32},
		{
			"AWQ leaves what has a name anywhere alone",
			`{` + dims + `,"quantization_config":{"quant_method":"awq","bits":4,"group_size":128,"modules_to_not_convert":["self_attn","mlp.gate"]}}`, "",
			2*2*4*1024*1024 + 2*3*1024*2048/2 + 2*3*1024*2048/128*2 + 2*3*1024*2048/128/2,
		},
		{
			"AutoRound's exceptions, by expression and by name",
			`{` + dims + `,"quantization_config":{"quant_method":"auto-round","bits":4,"group_size":128,"extra_config":{".*language_model\\.layers\\.\\d+\\.self_attn.*":{"bits":16},
			"model.language_model.layers.1.mlp.up_proj":{"bits":8}}}}`, "",
			2*2*4*1024*1024 + 5*(1024*2048/2+1024*2048/128*2+1024*2048/128/2) + 1024*2048 + 1024*2048/128*2 + 1024*2048/128/2,
		},
		{
			"Quark: MXFP4, and FP8 in one layer",
			`{` + dims + `,"quantization_config":{"quant_method":"quark","exclude":["lm_head","re:.*self_attn.*"],"global_quant_config":{"weight":{"dtype":"fp4","group_size":32}},
			"layer_quant_config":{"model.layers.1.mlp":{"weight":{"dtype":"fp8_e4m3"}}}}}`, "",
			2*2*4*1024*1024 + 3*1024*2048*17/32 + 3*1024*2048 + (2*2048+1024)*4,
		},
		{"attention left alone by a glob", `{` + dims + `,"quantization_config":{"quant_method":"modelopt","ignore":["model.layers.*.self_attn*"],"quant_algo":"NVFP4"}}`, "", 2*2*4*1024*1024 + 2*3*1024*2048/2 + 2*3*1024*2048/16},
		{"attention left alone by an expression", `{` + dims + `,"quantization_config":{"quant_method":"compressed-tensors","ignore":["re:.*self_attn.*"],"config_groups":{"g":{"targets":["Linear"],"weights":{"num_bits":4,"type":"float","group_size":16}}}}}`, "", 2*2*4*1024*1024 + 2*3*1024*2048/2 + 2*3*1024*2048/16},
		{"one layer named among others", `{` + dims + `,"quantization_config":{"quant_method":"modelopt","quant_algo":"MIXED_PRECISION","quantized_layers":{"model.layers.1.mlp":{"quant_algo":"FP8"}}}}`, "", 2*linear - 3*1024*2048 + (2*2048+1024)*4},
		{"32-bit weights", `{` + dims + `,"torch_dtype":"float32"}`, "", 4*linear + tables + norms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Parse(t.Context(), []byte(tt.config), []byte(tt.quant))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := weightBytes(m), tt.linear+tables+norms; got != want {
				t.Errorf("%d bytes, want %d (%d too many)", got, want, got-want)
			}
		})
	}
}

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	for name, tt := range map[string]struct{ config, want string }{
		"nothing":           {``, "not a JSON object"},
		"null":              {`null`, "null"},
		"a list":            {`[]`, "not a JSON object"},
		"no dimensions":     {`{"architectures":["LlamaForCausalLM"]}`, "hidden_size is missing"},
		"no layers":         {`{"hidden_size":4096}`, "num_hidden_layers is missing"},
		"a million layers":  {`{"hidden_size":4096,"num_hidden_layers":1000000}`, "layers are more than"},
		"a negative width":  {`{"hidden_size":-1,"num_hidden_layers":2}`, "hidden_size is missing"},
		"a fractional one":  {`{"hidden_size":0.5,"num_hidden_layers":2}`, "hidden_size is missing"},
		"an infinite width": {`{"hidden_size":Infinity,"num_hidden_layers":2}`, "hidden_size is missing"},
		"text for a width":  {`{"hidden_size":"wide","num_hidden_layers":2}`, "hidden_size is missing"},
	} {
		if _, err := Parse(t.Context(), []byte(tt.config), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
	}
	if _, err := Parse(t.Context(), make([]byte, maxConfigBytes+1), nil); err == nil {
		t.Error("a configuration of 8 MiB and more: no error")
	}
}

func TestUnknownAndIncompleteAreMarked(t *testing.T) {
	const dims = `"hidden_size":1024,"num_hidden_layers":2,"num_attention_heads":8,"vocab_size":1000`
	for name, config := range map[string]string{
		"an unknown class":        `{"architectures":["NextYearForCausalLM"],` + dims + `,"intermediate_size":2048}`,
		"no feed-forward width":   `{"architectures":["LlamaForCausalLM"],` + dims + `}`,
		"no class and model type": `{` + dims + `,"intermediate_size":2048}`,
	} {
		if m := mustParse(t, config); !m.UnknownArchitecture || weightBytes(m) == 0 {
			t.Errorf("%s: unknown %v, weights %d", name, m.UnknownArchitecture, weightBytes(m))
		}
	}
	if m := mustParse(t, `{"model_type":"llama",`+dims+`,"intermediate_size":2048}`); m.UnknownArchitecture {
		t.Error("a model type without a class is not known")
	}
}

// TestHugeDimensionsDoNotWrap: a model of absurd size must not come out small.
func TestHugeDimensionsDoNotWrap(t *testing.T) {
	m := mustParse(t, `{"architectures":["LlamaForCausalLM"],"hidden_size":1099511627776,"num_hidden_layers":1000,"num_attention_heads":1099511627776,`+
		`"num_key_value_heads":1099511627776,"head_dim":1099511627776,"intermediate_size":1099511627776,"vocab_size":1099511627776}`)
	r, err := estimator.Estimate(m, estimator.Settings{Runtime: estimator.RuntimeVLLM}, []int{1}, estimator.DeviceInfo{Total: 80 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if r.Options[0].Feasible || r.Options[0].Devices[0].Total < 1<<50 {
		t.Errorf("feasible %v with %d bytes", r.Options[0].Feasible, r.Options[0].Devices[0].Total)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"architectures":["Qwen3_5MoeForConditionalGeneration"],"text_config":{"hidden_size":64,"num_hidden_layers":4,"full_attention_interval":4,"linear_num_value_heads":4,"linear_key_head_dim":8},"vision_config":{"depth":2,"hidden_size":8}}`), []byte(`{"quantization":{"quant_algo":"MIXED_PRECISION","quantized_layers":{"a":{"quant_algo":"FP8"}}}}`))
	f.Add([]byte(`{"architectures":["NemotronHForCausalLM"],"hidden_size":8,"hybrid_override_pattern":"M*-E","num_nextn_predict_layers":1,"n_routed_experts":4}`), []byte(`{}`))
	f.Add([]byte(`{"architectures":["DeepseekV4ForCausalLM"],"hidden_size":8,"num_hidden_layers":3,"compress_ratios":[0,4,128],"head_dim":8,"o_groups":0,"quantization_config":{"ignore":["re:(","*"]}}`), []byte(nil))
	f.Fuzz(func(t *testing.T, config, quant []byte) {
		m, err := Parse(t.Context(), config, quant)
		if err != nil {
			return
		}
		if n := weightBytes(m); n < 0 {
			t.Errorf("weights of %d bytes", n)
		}
		for _, runtime := range []estimator.Runtime{estimator.RuntimeVLLM, estimator.RuntimeCustom} {
			r, err := estimator.Estimate(m, estimator.Settings{Runtime: runtime}, nil, estimator.DeviceInfo{Total: 80 << 30})
			for _, o := range r.Options {
				if err == nil && o.Devices[0].Total <= 0 {
					t.Errorf("an option of %d bytes", o.Devices[0].Total)
				}
			}
		}
	})
}
