// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is llama.cpp's server.
var _ = register(&Engine{
	Name:  RuntimeLlamaCpp,
	Title: "llama.cpp",
	Starts: func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool {
			base := path.Base(w)
			return base == "llama-server" || base == "llama-server.exe"
		})
	},
	// The images for servers start one.
	Image: func(name, tag string) bool { return path.Base(name) == "llama.cpp" && strings.HasPrefix(tag, "server") },

	Release:   llamaRelease,
	Flags:     llamaFlags,
	Variables: llamaVariables,
	Settle: func(s *flags.Scanner) {
		pairCacheTypes(&s.Settings)
		speculate(s)
	},
	SplitsByLayers: true,
	Counts:         upTo8,
	size:           llamaSize,
})

var llamaTag = regexp.MustCompile(`^(?:[a-z0-9]+-)*(b[0-9]{3,6})$`)

// llamaRelease returns the build ("b9849") that an image of llama.cpp's registry is of: its tags end in it.
func llamaRelease(name, tag string) string {
	match := llamaTag.FindStringSubmatch(tag)
	if match == nil || !strings.Contains(name, "llama.cpp") {
		return ""
	}
	return match[1]
}

func llamaSize(m *Model, s *Settings, dev DeviceInfo, e *Result) (sizer, error) {
	if m.Format != FormatGGUF {
		return nil, notGGUF(m, s)
	}
	return newLlama(m, s, dev, e)
}

// upTo8 are the counts of an engine that spreads its layers over whatever GPUs it sees.
func upTo8(bool) []int { return []int{1, 2, 3, 4, 5, 6, 7, 8} }

// llamaFlags are the flags of llama-server that memory depends on (llama.cpp, common/arg.cpp).
var llamaFlags = flags.Table(map[string]flags.Flag{
	"-m --model":                       flags.One(setModel),
	"-hf -hfr --hf-repo":               flags.One(setModel),
	"-c --ctx-size":                    flags.One(flags.NumberOrAuto(func(s *Settings) *int64 { return &s.ContextLength })),
	"-np --parallel":                   flags.One(flags.NumberOrAuto(func(s *Settings) *int64 { return &s.Parallel })),
	"-b --batch-size":                  flags.One(flags.Whole(func(s *Settings) *int64 { return &s.BatchSize })),
	"-ub --ubatch-size":                flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MicroBatchSize })),
	"-ctk --cache-type-k":              flags.One(flags.Text(func(s *Settings) *string { return &s.KVCacheType })),
	"-ctv --cache-type-v":              flags.One(flags.Text(func(s *Settings) *string { return &s.KVCacheTypeV })),
	"-fa --flash-attn":                 flags.Maybe(flags.SwitchTo(func(s *Settings) *Switch { return &s.FlashAttention }, true)),
	"-kvu --kv-unified":                flags.None(flags.SwitchTo(func(s *Settings) *Switch { return &s.KVUnified }, true)),
	"-no-kvu --no-kv-unified":          flags.None(flags.SwitchTo(func(s *Settings) *Switch { return &s.KVUnified }, false)),
	"--swa-full":                       flags.None(flags.Boolean(func(s *Settings) *bool { return &s.SWAFull }, true)),
	"-nkvo --no-kv-offload":            flags.None(flags.Boolean(func(s *Settings) *bool { return &s.NoKVOffload }, true)),
	"-ngl --gpu-layers --n-gpu-layers": flags.One(setGPULayers),
	"-sm --split-mode":                 flags.One(flags.Text(func(s *Settings) *string { return &s.SplitMode })),
	"-ts --tensor-split":               flags.One(setTensorSplit),
	"-cmoe --cpu-moe":                  flags.None(flags.Boolean(func(s *Settings) *bool { return &s.ExpertsOnCPU }, true)),
	"-ncmoe --n-cpu-moe":               flags.One(setCPUExperts),
	"--embedding --embeddings --rerank --reranking": flags.None(flags.Boolean(func(s *Settings) *bool { return &s.Embeddings }, true)),
	"--no-mmproj": flags.None(flags.Boolean(func(s *Settings) *bool { return &s.NoVision }, true)),
	"--spec-type": flags.One(setSpecType),
	"--spec-draft-n-max --draft --draft-n --draft-max": flags.One(flags.Whole(func(s *Settings) *int64 { return &s.SpeculativeTokens })),
	// Another file that is loaded beside the model: its size is not in the model's profile.
	"--lora --lora-scaled":           flags.One(elsewhere),
	"-mm --mmproj -mmu --mmproj-url": flags.One(elsewhere),
	"-md --model-draft --spec-draft-model -hfd --hf-repo-draft --spec-draft-hf": flags.One(elsewhere),
	"-ot --override-tensor": flags.One(elsewhere),
})

// llamaVariables are the environment variables that stand for flags of llama-server; flags win over them.
var llamaVariables = []flags.Variable{
	flags.Var("LLAMA_ARG_MODEL", setModel),
	flags.Var("LLAMA_ARG_HF_REPO", setModel),
	flags.Var("LLAMA_ARG_CTX_SIZE", flags.NumberOrAuto(func(s *Settings) *int64 { return &s.ContextLength })),
	flags.Var("LLAMA_ARG_N_PARALLEL", flags.NumberOrAuto(func(s *Settings) *int64 { return &s.Parallel })),
	flags.Var("LLAMA_ARG_BATCH", flags.Whole(func(s *Settings) *int64 { return &s.BatchSize })),
	flags.Var("LLAMA_ARG_UBATCH", flags.Whole(func(s *Settings) *int64 { return &s.MicroBatchSize })),
	flags.Var("LLAMA_ARG_CACHE_TYPE_K", flags.Text(func(s *Settings) *string { return &s.KVCacheType })),
	flags.Var("LLAMA_ARG_CACHE_TYPE_V", flags.Text(func(s *Settings) *string { return &s.KVCacheTypeV })),
	flags.Var("LLAMA_ARG_FLASH_ATTN", flags.SwitchTo(func(s *Settings) *Switch { return &s.FlashAttention }, true)),
	flags.Var("LLAMA_ARG_KV_UNIFIED", flags.SwitchTo(func(s *Settings) *Switch { return &s.KVUnified }, true)),
	flags.Var("LLAMA_ARG_SWA_FULL", flags.Boolean(func(s *Settings) *bool { return &s.SWAFull }, true)),
	flags.Var("LLAMA_ARG_NO_KV_OFFLOAD", flags.Boolean(func(s *Settings) *bool { return &s.NoKVOffload }, true)),
	flags.Var("LLAMA_ARG_N_GPU_LAYERS", setGPULayers),
	flags.Var("LLAMA_ARG_SPLIT_MODE", flags.Text(func(s *Settings) *string { return &s.SplitMode })),
	flags.Var("LLAMA_ARG_TENSOR_SPLIT", setTensorSplit),
	flags.Var("LLAMA_ARG_CPU_MOE", flags.Boolean(func(s *Settings) *bool { return &s.ExpertsOnCPU }, true)),
	flags.Var("LLAMA_ARG_N_CPU_MOE", setCPUExperts),
	flags.Var("LLAMA_ARG_SPEC_TYPE", setSpecType),
	flags.Var("LLAMA_ARG_SPEC_DRAFT_N_MAX", flags.Whole(func(s *Settings) *int64 { return &s.SpeculativeTokens })),
	flags.Var("LLAMA_ARG_EMBEDDINGS", flags.Boolean(func(s *Settings) *bool { return &s.Embeddings }, true)),
	flags.Var("LLAMA_ARG_RERANKING", flags.Boolean(func(s *Settings) *bool { return &s.Embeddings }, true)),
	flags.Var("LLAMA_ARG_NO_MMPROJ", flags.Boolean(func(s *Settings) *bool { return &s.NoVision }, true)),
}

// setSpecType reads which kinds of speculative decoding are used, separated by commas. The model's own prediction
// layers are one of them.
func setSpecType(s *flags.Scanner, name, value string) {
	if s.Classify(name, value) {
		s.OwnDraft = slices.Contains(strings.Split(value, ","), "draft-mtp")
	}
}

// speculate settles what the model's own prediction layers predict: three tokens unless a number is said
// (llama.cpp, common/common.h, common_params_speculative), none if they are not used.
func speculate(s *flags.Scanner) {
	switch n := &s.Settings.SpeculativeTokens; {
	case !s.OwnDraft:
		*n = 0
	case *n == 0:
		*n = 3
	}
}

// setGPULayers reads a number of layers; "all", "auto" and a negative number mean all of them.
func setGPULayers(s *flags.Scanner, name, value string) {
	if !s.Classify(name, value) {
		return
	}
	n, err := strconv.ParseInt(value, 10, 32)
	switch {
	case value == "all" || value == "auto":
		s.Settings.GPULayers = 0
	case err != nil:
		s.MarkInvalid(name, value)
	default:
		s.Settings.GPULayers = LayersOf(n)
	}
}

// setCPUExperts reads how many layers keep their experts on the host.
func setCPUExperts(s *flags.Scanner, name, value string) {
	if !s.Classify(name, value) {
		return
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 {
		s.MarkInvalid(name, value)
		return
	}
	s.Settings.CPUExpertLayers = n
	s.Settings.ExpertsOnCPU = n > 0
}

// setTensorSplit reads the proportions of the devices, or sees that they are Berth's.
func setTensorSplit(s *flags.Scanner, name, value string) {
	if ref, ok := flags.BerthReference(value); ok && ref == "BERTH_TENSOR_SPLIT" {
		s.TensorSplit = flags.Berth
		return
	}
	if !s.Classify(name, value) {
		s.TensorSplit = flags.Unknown
		return
	}
	s.TensorSplit = flags.Literal
	s.Settings.TensorSplit = flags.Shorten(value)
}

// pairCacheTypes fills in the type that was not given: llama-server sets keys and values apart, f16 by default, while
// Settings.KVCacheType alone stands for both.
func pairCacheTypes(s *Settings) {
	if s.KVCacheType != "" && s.KVCacheTypeV == "" {
		s.KVCacheTypeV = "f16"
	}
	if s.KVCacheType == "" && s.KVCacheTypeV != "" {
		s.KVCacheType = "f16"
	}
}
