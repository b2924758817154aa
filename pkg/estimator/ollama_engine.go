// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"path"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is Ollama, which runs llama.cpp's server.
var _ = register(&Engine{
	Name:  RuntimeOllama,
	Title: "Ollama",
	Starts: func(words []string) bool {
		for i, w := range words {
			if path.Base(w) == "ollama" && i+1 < len(words) && words[i+1] == "serve" {
				return true
			}
		}
		return false
	},
	Image:          func(name, _ string) bool { return path.Base(name) == "ollama" },
	Variables:      ollamaVariables,
	SplitsByLayers: true,
	Counts:         upTo8,
	size:           llamaSize,
})

// ollamaVariables are the environment variables of "ollama serve" (ollama, envconfig/config.go).
var ollamaVariables = []flags.Variable{
	flags.Var("OLLAMA_CONTEXT_LENGTH", flags.NumberOrAuto(func(s *Settings) *int64 { return &s.ContextLength })),
	flags.Var("OLLAMA_NUM_PARALLEL", flags.NumberOrAuto(func(s *Settings) *int64 { return &s.Parallel })),
	flags.Var("OLLAMA_KV_CACHE_TYPE", flags.Text(func(s *Settings) *string { return &s.KVCacheType })),
	flags.Var("OLLAMA_FLASH_ATTENTION", flags.SwitchTo(func(s *Settings) *Switch { return &s.FlashAttention }, true)),
}
