// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// aliases makes a table with an entry for each of the names in a key.
func aliases(table map[string]flag) map[string]flag {
	out := make(map[string]flag, 2*len(table))
	for names, f := range table {
		for name := range strings.FieldsSeq(names) {
			out[name] = f
		}
	}
	return out
}

// llamaFlags are the flags of llama-server that memory depends on (llama.cpp, common/arg.cpp).
var llamaFlags = aliases(map[string]flag{
	"-m --model":                       {oneValue, setModel},
	"-hf -hfr --hf-repo":               {oneValue, setModel},
	"-c --ctx-size":                    {oneValue, numberOrAuto(func(s *settings) *int64 { return &s.ContextLength })},
	"-np --parallel":                   {oneValue, numberOrAuto(func(s *settings) *int64 { return &s.Parallel })},
	"-b --batch-size":                  {oneValue, number(func(s *settings) *int64 { return &s.BatchSize })},
	"-ub --ubatch-size":                {oneValue, number(func(s *settings) *int64 { return &s.MicroBatchSize })},
	"-ctk --cache-type-k":              {oneValue, text(func(s *settings) *string { return &s.KVCacheType })},
	"-ctv --cache-type-v":              {oneValue, text(func(s *settings) *string { return &s.KVCacheTypeV })},
	"-fa --flash-attn":                 {maybeValue, switchTo(func(s *settings) *estimator.Switch { return &s.FlashAttention }, true)},
	"-kvu --kv-unified":                {noValue, switchTo(func(s *settings) *estimator.Switch { return &s.KVUnified }, true)},
	"-no-kvu --no-kv-unified":          {noValue, switchTo(func(s *settings) *estimator.Switch { return &s.KVUnified }, false)},
	"--swa-full":                       {noValue, boolean(func(s *settings) *bool { return &s.SWAFull }, true)},
	"-nkvo --no-kv-offload":            {noValue, boolean(func(s *settings) *bool { return &s.NoKVOffload }, true)},
	"-ngl --gpu-layers --n-gpu-layers": {oneValue, setGPULayers},
	"-sm --split-mode":                 {oneValue, text(func(s *settings) *string { return &s.SplitMode })},
	"-ts --tensor-split":               {oneValue, setTensorSplit},
	"-cmoe --cpu-moe":                  {noValue, boolean(func(s *settings) *bool { return &s.ExpertsOnCPU }, true)},
	"-ncmoe --n-cpu-moe":               {oneValue, setCPUExperts},
	"--embedding --embeddings --rerank --reranking": {noValue, boolean(func(s *settings) *bool { return &s.Embeddings }, true)},
	"--no-mmproj": {noValue, boolean(func(s *settings) *bool { return &s.NoVision }, true)},
	"--spec-type": {oneValue, setSpecType},
	"--spec-draft-n-max --draft --draft-n --draft-max": {oneValue, number(func(s *settings) *int64 { return &s.SpeculativeTokens })},
	// Another file that is loaded beside the model: its size is not in the model's profile.
	"-mm --mmproj -mmu --mmproj-url":                                            {oneValue, func(s *scanner, name, _ string) { s.unknown(name) }},
	"-md --model-draft --spec-draft-model -hfd --hf-repo-draft --spec-draft-hf": {oneValue, func(s *scanner, name, _ string) { s.unknown(name) }},
	"-ot --override-tensor":                                                     {oneValue, func(s *scanner, name, _ string) { s.unknown(name) }},
})

// llamaVariables are the environment variables that stand for flags of llama-server; flags win over them.
var llamaVariables = []variable{
	{"LLAMA_ARG_MODEL", setModel},
	{"LLAMA_ARG_HF_REPO", setModel},
	{"LLAMA_ARG_CTX_SIZE", numberOrAuto(func(s *settings) *int64 { return &s.ContextLength })},
	{"LLAMA_ARG_N_PARALLEL", numberOrAuto(func(s *settings) *int64 { return &s.Parallel })},
	{"LLAMA_ARG_BATCH", number(func(s *settings) *int64 { return &s.BatchSize })},
	{"LLAMA_ARG_UBATCH", number(func(s *settings) *int64 { return &s.MicroBatchSize })},
	{"LLAMA_ARG_CACHE_TYPE_K", text(func(s *settings) *string { return &s.KVCacheType })},
	{"LLAMA_ARG_CACHE_TYPE_V", text(func(s *settings) *string { return &s.KVCacheTypeV })},
	{"LLAMA_ARG_FLASH_ATTN", switchTo(func(s *settings) *estimator.Switch { return &s.FlashAttention }, true)},
	{"LLAMA_ARG_KV_UNIFIED", switchTo(func(s *settings) *estimator.Switch { return &s.KVUnified }, true)},
	{"LLAMA_ARG_SWA_FULL", boolean(func(s *settings) *bool { return &s.SWAFull }, true)},
	{"LLAMA_ARG_NO_KV_OFFLOAD", boolean(func(s *settings) *bool { return &s.NoKVOffload }, true)},
	{"LLAMA_ARG_N_GPU_LAYERS", setGPULayers},
	{"LLAMA_ARG_SPLIT_MODE", text(func(s *settings) *string { return &s.SplitMode })},
	{"LLAMA_ARG_TENSOR_SPLIT", setTensorSplit},
	{"LLAMA_ARG_CPU_MOE", boolean(func(s *settings) *bool { return &s.ExpertsOnCPU }, true)},
	{"LLAMA_ARG_N_CPU_MOE", setCPUExperts},
	{"LLAMA_ARG_SPEC_TYPE", setSpecType},
	{"LLAMA_ARG_SPEC_DRAFT_N_MAX", number(func(s *settings) *int64 { return &s.SpeculativeTokens })},
	{"LLAMA_ARG_EMBEDDINGS", boolean(func(s *settings) *bool { return &s.Embeddings }, true)},
	{"LLAMA_ARG_RERANKING", boolean(func(s *settings) *bool { return &s.Embeddings }, true)},
	{"LLAMA_ARG_NO_MMPROJ", boolean(func(s *settings) *bool { return &s.NoVision }, true)},
}

// ollamaVariables are the environment variables of "ollama serve" (ollama, envconfig/config.go).
var ollamaVariables = []variable{
	{"OLLAMA_CONTEXT_LENGTH", numberOrAuto(func(s *settings) *int64 { return &s.ContextLength })},
	{"OLLAMA_NUM_PARALLEL", numberOrAuto(func(s *settings) *int64 { return &s.Parallel })},
	{"OLLAMA_KV_CACHE_TYPE", text(func(s *settings) *string { return &s.KVCacheType })},
	{"OLLAMA_FLASH_ATTENTION", switchTo(func(s *settings) *estimator.Switch { return &s.FlashAttention }, true)},
}

// setSpecType reads which kinds of speculative decoding are used, separated by commas. The model's own prediction
// layers are one of them.
func setSpecType(s *scanner, name, value string) {
	if s.classify(name, value) {
		s.ownDraft = slices.Contains(strings.Split(value, ","), "draft-mtp")
	}
}

// speculate settles what the model's own prediction layers predict: three tokens unless a number is said
// (llama.cpp, common/common.h, common_params_speculative), none if they are not used.
func (s *scanner) speculate() {
	switch n := &s.r.Settings.SpeculativeTokens; {
	case !s.ownDraft:
		*n = 0
	case *n == 0:
		*n = 3
	}
}

// setGPULayers reads a number of layers; "all", "auto" and a negative number mean all of them.
func setGPULayers(s *scanner, name, value string) {
	if !s.classify(name, value) {
		return
	}
	n, err := strconv.ParseInt(value, 10, 32)
	switch {
	case value == "all" || value == "auto":
		s.r.Settings.GPULayers = 0
	case err != nil:
		s.invalid(name, value)
	default:
		s.r.Settings.GPULayers = estimator.LayersOf(n)
	}
}

// setCPUExperts reads how many layers keep their experts on the host.
func setCPUExperts(s *scanner, name, value string) {
	if !s.classify(name, value) {
		return
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 {
		s.invalid(name, value)
		return
	}
	s.r.Settings.CPUExpertLayers = n
	s.r.Settings.ExpertsOnCPU = n > 0
}

// setTensorSplit reads the proportions of the devices, or sees that they are Berth's.
func setTensorSplit(s *scanner, name, value string) {
	if ref, ok := berthReference(value); ok && ref == "BERTH_TENSOR_SPLIT" {
		s.r.TensorSplit = Berth
		return
	}
	if !s.classify(name, value) {
		s.r.TensorSplit = Unknown
		return
	}
	s.r.TensorSplit = Literal
	s.r.Settings.TensorSplit = shorten(value)
}
