// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is one of NVIDIA's NIM images, which choose between vLLM, TensorRT-LLM and SGLang by the GPU that they see. What
// they take of it follows from that choice, so it is all of it unless NIM_KVCACHE_PERCENT says less
// (docs.nvidia.com/nim/large-language-models, "Configure Your NIM").
var _ = register(&Engine{
	Name:  "nim",
	Title: "NIM",
	Image: func(name, _ string) bool { return strings.Contains(name+"/", "nvcr.io/nim/") },
	Set: func(env flags.Environment) bool {
		return isSet(env, "NIM_KVCACHE_PERCENT") || isSet(env, "NIM_MODEL_PROFILE")
	},
	Variables: []flags.Variable{flags.Var("NIM_KVCACHE_PERCENT", ofTotal), flags.Var("NIM_TENSOR_PARALLEL_SIZE", shards)},

	MeasuresFreeMemory: true,
	Counts:             powersOfTwo,
	Share:              shareOfTotal("NIM_KVCACHE_PERCENT", 1_000_000),
	size:               customEngine.size,
})

func isSet(env flags.Environment, name string) bool {
	_, ok := env.Lookup(name)
	return ok
}
