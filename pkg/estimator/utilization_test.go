// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
)

func TestDefaultUtilization(t *testing.T) {
	for version, want := range map[string]int64{
		"": 920_000, "latest": 920_000, "0.22.0": 920_000, "v0.21.1rc1": 920_000, "1.0.0": 920_000, "0.19.0": 900_000, "v0.9.2": 900_000, "0.11": 900_000,
	} {
		if got := estimator.DefaultUtilization(version); got != want {
			t.Errorf("vLLM %q takes %d, want %d", version, got, want)
		}
	}
}

// TestOutsideWithoutAModel: what is booked outside the fraction when the model is not known covers known ones.
func TestOutsideWithoutAModel(t *testing.T) {
	llama := parseConfig(t, map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
		"intermediate_size": 14336, "vocab_size": 128256,
	})
	mixture := parseConfig(t, map[string]any{
		"architectures": []string{"Qwen3MoeForCausalLM"}, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
		"head_dim": 128, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936,
	})
	for _, m := range []*estimator.Model{llama, mixture} {
		for _, version := range []string{"0.19.0", "0.22.0", "0.26.0"} {
			for _, gpus := range []int{1, 2, 4} {
				s := estimator.Settings{Runtime: estimator.RuntimeVLLM, Version: version}
				known, unknown := one(t, m, s, gpus, estimator.DeviceInfo{}).Outside, estimator.OutsideUtilization(s, estimator.DeviceInfo{}, gpus)
				if unknown < known {
					t.Errorf("%s %s on %d GPUs: %d outside without the model, %d with it", m.Architecture, version, gpus, unknown, known)
				}
			}
		}
	}
}
