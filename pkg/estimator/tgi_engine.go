// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is Hugging Face's Text Generation Inference. Its cache takes what is free of a fraction of the GPU, all of it
// unless told (text-generation-launcher, --cuda-memory-fraction, default 1.0; server/text_generation_server/utils/
// import_utils.py, get_cuda_free_memory: free − (1 − fraction) × total).
var _ = register(&Engine{
	Name:  "text-generation-inference",
	Title: "Text Generation Inference",
	Starts: func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return path.Base(w) == "text-generation-launcher" })
	},
	Image: func(name, _ string) bool { return strings.Contains(path.Base(name), "text-generation-inference") },
	Flags: flags.Table(map[string]flags.Flag{
		"--cuda-memory-fraction": flags.One(ofTotal), "--model-id": flags.One(setModel), "--num-shard": flags.One(shards), "--quantize": flags.One(setQuantization),
		"--max-total-tokens": flags.One(setTotalTokens),
	}),
	Variables: []flags.Variable{
		flags.Var("CUDA_MEMORY_FRACTION", ofTotal), flags.Var("NUM_SHARD", shards), flags.Var("MODEL_ID", setModel), flags.Var("QUANTIZE", setQuantization),
		flags.Var("MAX_TOTAL_TOKENS", setTotalTokens),
	},
	// The longest request follows from the memory that is free, unless it is told: 4096 tokens up to v2.
	Settle: func(s *flags.Scanner) { s.Settings.ContextLength = cmp.Or(s.Settings.ContextLength, 4096) },

	MeasuresFreeMemory: true,
	Counts:             powersOfTwo,
	Share:              shareOfTotal("--cuda-memory-fraction", 1_000_000),
	size:               customEngine.size,
})

var setTotalTokens = flags.Whole(func(s *Settings) *int64 { return &s.ContextLength })

// setQuantization reads --quantize, whose "bitsandbytes" has eight bits, and four in vLLM.
func setQuantization(s *flags.Scanner, name, value string) {
	if value == "bitsandbytes" {
		value += "-int8"
	}
	flags.Text(func(s *Settings) *string { return &s.Quantization })(s, name, value)
}

// shareOfTotal is a fraction of the GPU, which can be all of it; CUDA and NCCL lie beside it.
func shareOfTotal(flag string, fraction int64) *Share {
	return &Share{
		Flag: flag, Variable: "BERTH_GPU_MEMORY_UTILIZATION", OfFree: true,
		Default: func(*Settings, DeviceInfo, int) int64 { return fraction },
		Outside: func(_ *Settings, _ DeviceInfo, gpus int) (outside, before int64) {
			return startup(int64(gpus), false), 0
		},
	}
}

// ofTotal reads a fraction of the GPU.
var ofTotal = fractionBy("BERTH_GPU_MEMORY_UTILIZATION")
