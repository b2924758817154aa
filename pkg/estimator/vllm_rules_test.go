// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
)

// vllmModel is a model of the dimensions of Llama 3.1 8B, as its configuration gives them.
func vllmModel(t *testing.T, more map[string]any) *estimator.Model {
	t.Helper()
	config := map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
		"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072,
	}
	for k, v := range more {
		config[k] = v
	}
	return parseConfig(t, config)
}

func vllm019(change ...func(*estimator.Settings)) estimator.Settings {
	s := estimator.Settings{Runtime: estimator.RuntimeVLLM, Version: "0.19.0", ContextLength: 8192}
	for _, f := range change {
		f(&s)
	}
	return s
}

// TestWhatAVLLMSettingCosts compares the first device with and without one setting, or one property of the model.
func TestWhatAVLLMSettingCosts(t *testing.T) {
	type settings = estimator.Settings
	version := func(v string) func(*settings) { return func(s *settings) { s.Version = v } }
	tied := map[string]any{"tie_word_embeddings": true}
	// 1024 × 128256 logits are 125.25 MiB for each byte.
	for _, tt := range []struct {
		name          string
		before, after map[string]any
		from, to      settings
		want          parts
	}{
		// 14 B each, three hidden states of 64 MiB, against four of them and three widths of 224.
		{"embeddings are not sampled, and have no output layer", nil, nil, vllm019(), vllm019(func(s *settings) { s.Embeddings = true }), parts{-1002, 0, 256 + 3*224 - 1754 - 192}},
		{"speculative decoding samples one row more, however deep", tied, tied, vllm019(), vllm019(func(s *settings) { s.SpeculativeTokens = 3 }), parts{0, 0, 1754}},
		{"up to v0.16 a logit takes 38 bytes", nil, nil, vllm019(), vllm019(version("0.16.0")), parts{0, 0, 24*125 + 6}},
		// The forward pass of 928 is then the larger one.
		{"from v0.25 on the sampler is not profiled in full", nil, nil, vllm019(), vllm019(version("0.25.0")), parts{0, 0, 928 - 1754 - 192}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := estimate(t, vllmModel(t, tt.before), tt.from, 1)
			after, _ := estimate(t, vllmModel(t, tt.after), tt.to, 1)
			b, a := partsOf(&before.Devices[0]), partsOf(&after.Devices[0])
			got := parts{a.Weights - b.Weights, a.Cache - b.Cache, a.Compute - b.Compute}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(x, y int64) bool { return max(x-y, y-x) <= 1 })); diff != "" {
				t.Errorf("MiB (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnEncoderCachesAndSamplesNothing(t *testing.T) {
	m := vllmModel(t, map[string]any{"architectures": []string{"XLMRobertaModel"}})
	o, _ := estimate(t, m, vllm019(), 1)
	// Four hidden states of 8192 × 4096 × 2 B, three widths of 14336.
	if got, want := partsOf(&o.Devices[0]), (parts{partsOf(&o.Devices[0]).Weights, 0, 4*64 + 3*224}); got != want {
		t.Errorf("%+v MiB, want %+v", got, want)
	}
}

func TestWhatTheSamplerTakesLaterIsOutside(t *testing.T) {
	m := vllmModel(t, nil)
	old, _ := estimate(t, m, vllm019(func(s *estimator.Settings) { s.Version = "0.24.0" }), 1)
	now, _ := estimate(t, m, vllm019(func(s *estimator.Settings) { s.Version = "0.25.0" }), 1)
	if got, want := now.Outside-old.Outside, int64(10*1024*128256); got != want {
		t.Errorf("%d bytes more outside the fraction, want ten for each logit: %d", got, want)
	}
}

func TestAContextBeyondTheModelsIsTold(t *testing.T) {
	const long = 262144
	plain := func(*estimator.Settings) {}
	for _, tt := range []struct {
		name     string
		config   map[string]any
		change   func(*estimator.Settings)
		feasible bool
	}{
		{"twice the model's 131072", nil, plain, false},
		{"by a setting", nil, func(s *estimator.Settings) { s.LongContext = true }, true},
		{"scaled by the configuration", map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32768}}, plain, true},
		{"scaled, and counted in already", map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}}, plain, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := vllm019(tt.change)
			s.ContextLength = long
			o, _ := estimate(t, vllmModel(t, tt.config), s, 1)
			if o.Feasible != tt.feasible {
				t.Errorf("feasible %t, want %t (%s)", o.Feasible, tt.feasible, o.Reason)
			}
			if !tt.feasible && !strings.Contains(o.Reason, "longer than the model's 131072") {
				t.Errorf("reason %q does not say the limit", o.Reason)
			}
		})
	}
}

func TestADraftModelOfUnknownSize(t *testing.T) {
	s := vllm019(func(s *estimator.Settings) { s.DraftModel = "org/eagle3" })
	if _, notes := estimate(t, vllmModel(t, nil), s, 1); !strings.Contains(strings.Join(notes, "\n"), `"org/eagle3" is loaded beside`) {
		t.Errorf("notes %q do not name the draft model", notes)
	}
	s.UtilizationHandedOver = true
	if _, err := estimator.Estimate(vllmModel(t, nil), s, []int{1}, estimator.DeviceInfo{}); err == nil || !strings.Contains(err.Error(), "berth.dev/gpu-memory") {
		t.Errorf("booked for what it needs: error %v, want one that says what to do", err)
	}
}

func TestAReleaseBeyondTheMeasuredOnesIsMarked(t *testing.T) {
	for v, marked := range map[string]bool{"0.26.1": false, "0.31.0": true, "": false} {
		_, notes := estimate(t, vllmModel(t, nil), vllm019(func(s *estimator.Settings) { s.Version = v }), 1)
		if got := strings.Contains(strings.Join(notes, "\n"), "newest release with measurements"); got != marked {
			t.Errorf("version %q: marked %t, want %t", v, got, marked)
		}
	}
}

// TestSparseAttentionInVLLM: the workspace of GLM-5.2's indexer, 40 × 819200 × 132 B, and two layers with and without.
func TestSparseAttentionInVLLM(t *testing.T) {
	config := map[string]any{
		"architectures": []string{"GlmMoeDsaForCausalLM"}, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
		"num_hidden_layers": 2, "max_position_embeddings": 819200, "vocab_size": 1000,
	}
	s := vllm019(func(s *estimator.Settings) { s.ContextLength = 819200 })
	plain, _ := estimate(t, vllmModel(t, config), s, 1)
	config["index_head_dim"], config["index_n_heads"], config["indexer_types"] = 128, 4, []string{"full", "shared"}
	sparse, _ := estimate(t, vllmModel(t, config), s, 1)
	if got, want := partsOf(&sparse.Devices[0]).Compute-partsOf(&plain.Devices[0]).Compute, int64(40*819200*132)/mebibyte; max(got-want, want-got) > 1 {
		t.Errorf("%d MiB more, want %d", got, want)
	}
	// 656 B a token, and an indexer's 132 in the layer that has one.
	if got, want := sparse.KVBytesPerToken, int64(2*656+132); got != want {
		t.Errorf("%d bytes a token, want %d", got, want)
	}
}

// TestTablesOfRotationsAreLoaded: a model is charged what its tables take, beyond a million positions, too (Llama 4
// Scout: 2.5 GiB on each GPU).
func TestTablesOfRotationsAreLoaded(t *testing.T) {
	m := parseConfig(t, map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 128,
		"vocab_size": 128, "intermediate_size": 64, "max_position_embeddings": 10485760,
	})
	s := estimator.Settings{Runtime: estimator.RuntimeVLLM, ContextLength: 1024}
	with := one(t, m, s, 2, estimator.DeviceInfo{}).Devices[0].Components.Weights
	m.RotaryElements = 0
	without := one(t, m, s, 2, estimator.DeviceInfo{}).Devices[0].Components.Weights
	if got, want := with-without, int64((10485760-1<<20)*128*2); got != want {
		t.Errorf("the table takes %d bytes more than one of a million positions, want %d", got, want)
	}
}
