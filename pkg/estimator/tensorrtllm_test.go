// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
)

// TestTensorRTsCacheOfALatentModel: 61 layers of 512 + 64 elements of one byte, the "kv size is 35136" of a worker that
// served DeepSeek-R1 on H200s (the logs that ai-dynamo's log parser is tested with).
func TestTensorRTsCacheOfALatentModel(t *testing.T) {
	m := parseConfig(t, map[string]any{
		"architectures": []string{"DeepseekV3ForCausalLM"}, "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
		"intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1,
		"first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
		"vocab_size": 129280, "max_position_embeddings": 163840, "quantization_config": map[string]any{"quant_method": "fp8", "weight_block_size": []int{128, 128}},
	})
	s := estimator.Settings{Runtime: estimator.RuntimeTensorRT, ContextLength: 131072, KVCacheType: "fp8"}
	if got := one(t, m, s, 8, estimator.DeviceInfo{}).KVBytesPerToken; got != 35136 {
		t.Errorf("%d bytes per token, want 35136", got)
	}
}

// TestTensorRTTakesAFractionOfWhatItsModelLeaves: 0.9 of what is left of an H100 by what is not cache.
func TestTensorRTTakesAFractionOfWhatItsModelLeaves(t *testing.T) {
	m := parseConfig(t, llama8B)
	dev := estimator.DeviceInfo{Total: 81559 * oneMiB, Name: "NVIDIA H100 80GB HBM3"}
	s := estimator.Settings{Runtime: estimator.RuntimeTensorRT, ContextLength: 8192}
	o := one(t, m, s, 1, dev)
	c := o.Devices[0].Components
	rest := c.Weights + c.Compute + c.Engine
	if o.Outside != rest || o.Before != rest {
		t.Errorf("outside its cache %d and before it %d, want both %d", o.Outside, o.Before, rest)
	}
	if want := rest + (dev.Total-rest)/10*9; o.Take < want-10 || o.Take > want+10 {
		t.Errorf("it takes %d, want %d", o.Take, want)
	}
	if c.KVCache != 8192*131072 {
		t.Errorf("a request of 8192 tokens keeps %d bytes, want 1 GiB", c.KVCache)
	}
	s.GPUMemoryUtilization = 10_000
	if o := one(t, m, s, 1, dev); o.Feasible {
		t.Error("a hundredth of what is left is said to hold a request of 1 GiB")
	}
}
