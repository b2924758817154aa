// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"encoding/json"

	"github.com/berth-dev/berth/pkg/estimator"
)

type settings = estimator.Settings

// vllmFlags are the flags of "vllm serve" that memory depends on (docs.vllm.ai, "Engine Arguments"). vLLM takes
// underscores for hyphens.
var vllmFlags = aliases(map[string]flag{
	"--model":                    {oneValue, setModel},
	"--tensor-parallel-size -tp": {oneValue, reference("BERTH_TENSOR_PARALLEL_SIZE", func(r *Result) *Number { return &r.TensorParallel }, parseCount)},
	"--pipeline-parallel-size -pp": {oneValue, func(s *scanner, name, value string) {
		reference("", func(r *Result) *Number { return &r.PipelineParallel }, parseCount)(s, name, value)
		s.r.Settings.PipelineParallel = s.r.PipelineParallel.Value
	}},
	"--gpu-memory-utilization": {oneValue, func(s *scanner, name, value string) {
		reference("BERTH_GPU_MEMORY_UTILIZATION", func(r *Result) *Number { return &r.GPUMemoryUtilization }, parseUtilization)(s, name, value)
		s.r.Settings.GPUMemoryUtilization = s.r.GPUMemoryUtilization.Value
		s.r.Settings.UtilizationHandedOver = s.r.GPUMemoryUtilization.Source == Berth
	}},
	"--kv-cache-memory-bytes --kv-cache-memory": {oneValue, func(s *scanner, name, value string) {
		reference("", func(r *Result) *Number { return &r.KVCacheMemory }, parseHuman)(s, name, value)
		s.r.Settings.KVCacheMemory = s.r.KVCacheMemory.Value
	}},
	"--max-model-len":          {oneValue, numberOrAuto(func(s *settings) *int64 { return &s.ContextLength })},
	"--max-num-seqs":           {oneValue, number(func(s *settings) *int64 { return &s.MaxNumSeqs })},
	"--max-num-batched-tokens": {oneValue, number(func(s *settings) *int64 { return &s.MaxNumBatchedTokens })},
	"--block-size":             {oneValue, number(func(s *settings) *int64 { return &s.BlockSize })},
	"--kv-cache-dtype":         {oneValue, text(func(s *settings) *string { return &s.KVCacheType })},
	"--dtype":                  {oneValue, text(func(s *settings) *string { return &s.DType })},
	"--quantization -q":        {oneValue, text(func(s *settings) *string { return &s.Quantization })},
	"--max-loras":              {oneValue, number(func(s *settings) *int64 { return &s.MaxLoRAs })},
	"--max-lora-rank":          {oneValue, number(func(s *settings) *int64 { return &s.MaxLoRARank })},
	"--enable-lora": {maybeValue, func(s *scanner, name, value string) {
		if s.classify(name, value) && (value == "" || truthy(value)) {
			s.r.Settings.MaxLoRAs = max(s.r.Settings.MaxLoRAs, 1)
		}
	}},
	"--enable-prefix-caching":    {maybeValue, switchTo(func(s *settings) *estimator.Switch { return &s.PrefixCaching }, true)},
	"--no-enable-prefix-caching": {noValue, switchTo(func(s *settings) *estimator.Switch { return &s.PrefixCaching }, false)},
	"--runner --task --convert":  {oneValue, setRunner},
	// A longer context than the model's own, by its configuration.
	"--hf-overrides --rope-scaling": {oneValue, func(s *scanner, _, _ string) { s.r.Settings.LongContext = true }},
	"--enforce-eager":               {maybeValue, boolean(func(s *settings) *bool { return &s.EnforceEager }, true)},
	"--no-enforce-eager":            {noValue, boolean(func(s *settings) *bool { return &s.EnforceEager }, false)},
	"--enable-expert-parallel -ep":  {maybeValue, boolean(func(s *settings) *bool { return &s.ExpertParallel }, true)},
	"--no-enable-expert-parallel":   {noValue, boolean(func(s *settings) *bool { return &s.ExpertParallel }, false)},
	"--language-model-only":         {maybeValue, boolean(func(s *settings) *bool { return &s.NoVision }, true)},
	"--speculative-config -sc":      {oneValue, setSpeculation},
	"--num-speculative-tokens":      {oneValue, number(func(s *settings) *int64 { return &s.SpeculativeTokens })},
	// A file of flags, which is in the image or a volume.
	"--config": {oneValue, func(s *scanner, name, _ string) { s.unknown(name) }},
})

// setRunner reads what the server is for: --runner pooling, --task embed (and its like), --convert embed.
func setRunner(s *scanner, name, value string) {
	if !s.classify(name, value) {
		return
	}
	switch value {
	case "pooling", "embed", "embedding", "classify", "score", "reward", "token_embed", "token_classify":
		s.r.Settings.Embeddings = true
	case "generate":
		s.r.Settings.Embeddings = false
	}
}

// setModel takes the model that the engine is told to load.
func setModel(s *scanner, name, value string) {
	if s.classify(name, value) {
		s.r.Model = value
	}
}

// setSpeculation reads --speculative-config, a JSON object. The model's own draft layers (MTP) cost what the model says;
// another model is loaded beside it.
func setSpeculation(s *scanner, name, value string) {
	if !s.classify(name, value) {
		return
	}
	var config struct {
		Tokens int64  `json:"num_speculative_tokens"`
		Model  string `json:"model"`
	}
	if json.Unmarshal([]byte(value), &config) != nil || config.Tokens < 0 || config.Tokens > 1<<10 {
		s.invalid(name, value)
		return
	}
	s.r.Settings.SpeculativeTokens = config.Tokens
	if config.Model != s.r.Model {
		s.r.Settings.DraftModel = shorten(config.Model)
	}
}
