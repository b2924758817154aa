// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// Container is the part of a container's specification that is read.
type Container struct {
	Command, Args []string
	// Env is the variables with literal values.
	Env map[string]string
	// UnknownEnv is the variables whose values are not in the pod: from ConfigMaps, Secrets, or fields.
	UnknownEnv map[string]bool
	// OpaqueEnvFrom says that whole ConfigMaps or Secrets are imported: any variable may then have any value.
	OpaqueEnvFrom bool
}

// Source is where the value of a setting comes from.
type Source int

const (
	// Unset: the engine's default holds.
	Unset Source = iota
	// Literal: the value is written in the pod.
	Literal
	// Berth: the value is one of Berth's variables, so the engine follows the scheduler's choice.
	Berth
	// Unknown: the value cannot be known before the container starts.
	Unknown
)

// Number is a setting that placement depends on.
type Number struct {
	Source Source
	// Value is that of a Literal.
	Value int64
}

// Result is what a container's command line and environment say.
type Result struct {
	// Runtime is the engine: the one that was asked for, or the one that the command line starts; empty if neither
	// says.
	Runtime estimator.Runtime
	// Model is what the engine is told to load, as it is written; empty when it is not said or not known.
	Model string
	// Settings are the engine's settings that are literals. Its Runtime is that of the result.
	Settings estimator.Settings
	// TensorParallel and PipelineParallel are vLLM's sizes.
	TensorParallel, PipelineParallel Number
	// GPUMemoryUtilization is in parts per million.
	GPUMemoryUtilization Number
	// KVCacheMemory is vLLM's --kv-cache-memory-bytes.
	KVCacheMemory Number
	// TensorSplit is where llama.cpp's --tensor-split comes from.
	TensorSplit Source
	// Unknown are the settings, by flag or variable, whose values cannot be known, in order.
	Unknown []string
	// Invalid are the settings whose values make no sense to the engine, in order, as "--flag value".
	Invalid []string
}

// Parse reads a container. runtime is the engine if it is known, else empty or custom; it is then taken from the
// command line.
func Parse(runtime estimator.Runtime, c Container) Result {
	e := newExpander(c)
	words := e.argv()
	if runtime == "" || runtime == estimator.RuntimeCustom {
		if found := detect(words); found != "" {
			runtime = found
		}
	}
	r := Result{Runtime: runtime}
	s := scanner{r: &r, e: e}
	switch runtime {
	case estimator.RuntimeVLLM:
		s.scan(vllmArguments(words, len(c.Command) == 0), vllmFlags)
		const long = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
		if truthy(e.expand(c.Env[long], 0)) || c.UnknownEnv[long] {
			r.Settings.LongContext = true
		}
	case estimator.RuntimeLlamaCpp:
		s.environment(llamaVariables)
		s.scan(words, llamaFlags)
		pairCacheTypes(&r.Settings)
		s.speculate()
	case estimator.RuntimeOllama:
		s.environment(ollamaVariables)
	}
	r.Settings.Runtime = runtime
	slices.Sort(r.Unknown)
	r.Unknown = slices.Compact(r.Unknown)
	return r
}

// detect names the engine that a command line starts.
func detect(words []string) estimator.Runtime {
	for i, w := range words {
		switch base := path.Base(w); {
		case base == "vllm", strings.HasPrefix(w, "vllm.entrypoints"):
			return estimator.RuntimeVLLM
		case base == "llama-server", base == "llama-server.exe":
			return estimator.RuntimeLlamaCpp
		case base == "ollama" && i+1 < len(words) && words[i+1] == "serve":
			return estimator.RuntimeOllama
		}
	}
	return ""
}

// pairCacheTypes fills in the type that was not given: llama-server sets keys and values apart, f16 by default, while
// Settings.KVCacheType alone stands for both.
func pairCacheTypes(s *estimator.Settings) {
	if s.KVCacheType != "" && s.KVCacheTypeV == "" {
		s.KVCacheTypeV = "f16"
	}
	if s.KVCacheType == "" && s.KVCacheTypeV != "" {
		s.KVCacheType = "f16"
	}
}

// vllmArguments returns the arguments after the program, the model of "vllm serve MODEL" as a flag. entrypoint says
// that the image's own entrypoint runs, which is "vllm serve".
func vllmArguments(words []string, entrypoint bool) []string {
	for i, w := range words {
		if path.Base(w) == "vllm" && i+1 < len(words) && words[i+1] == "serve" {
			rest := words[i+2:]
			if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				return append([]string{"--model=" + rest[0]}, rest[1:]...)
			}
			return rest
		}
		if strings.HasPrefix(w, "vllm.entrypoints") {
			return words[i+1:]
		}
	}
	if entrypoint && len(words) > 0 && !strings.HasPrefix(words[0], "-") && !strings.ContainsRune(words[0], unknownMark) {
		return append([]string{"--model=" + words[0]}, words[1:]...)
	}
	return words
}

// scanner applies flags and variables to a result.
type scanner struct {
	r *Result
	e *expander
	// ownDraft: llama.cpp is told to use the model's own prediction layers.
	ownDraft bool
}

// flag is one setting of an engine.
type flag struct {
	// value says whether the flag takes one: needed, never, or optional (taken if the next word is no flag).
	value arity
	apply func(s *scanner, name, value string)
}

type arity int

const (
	noValue arity = iota
	oneValue
	maybeValue
)

// scan reads words as flags; what it does not know it passes over, a value at a time.
func (s *scanner) scan(words []string, flags map[string]flag) {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if len(w) < 2 || w[0] != '-' {
			continue
		}
		name, value, hasValue := strings.Cut(w, "=")
		f, ok := flags[canonicalFlag(name)]
		if !ok {
			continue
		}
		if !hasValue && f.value != noValue && i+1 < len(words) && (f.value == oneValue || !looksLikeFlag(words[i+1])) {
			i++
			value, hasValue = words[i], true
		}
		if f.value == oneValue && !hasValue {
			continue
		}
		f.apply(s, name, value)
	}
}

// canonicalFlag writes a long flag with hyphens: engines take underscores as well.
func canonicalFlag(name string) string {
	if strings.HasPrefix(name, "--") && strings.ContainsRune(name, '_') {
		return strings.ReplaceAll(name, "_", "-")
	}
	return name
}

// looksLikeFlag tells "-ub" from "-1".
func looksLikeFlag(w string) bool {
	return len(w) > 1 && w[0] == '-' && (w[1] < '0' || w[1] > '9')
}

// environment applies variables that stand for flags.
func (s *scanner) environment(variables []variable) {
	for _, v := range variables {
		value, ok := s.e.c.Env[v.name]
		switch {
		case ok:
			v.apply(s, v.name, s.e.expand(value, 0))
		case s.e.c.UnknownEnv[v.name]:
			v.apply(s, v.name, string(unknownMark))
		}
	}
	if s.e.c.OpaqueEnvFrom {
		s.unknown("envFrom")
	}
}

// variable is an environment variable that sets what a flag sets.
type variable struct {
	name  string
	apply func(s *scanner, name, value string)
}

func (s *scanner) unknown(name string) { s.r.Unknown = append(s.r.Unknown, name) }

func (s *scanner) invalid(name, value string) {
	const most = 16
	if len(s.r.Invalid) < most {
		s.r.Invalid = append(s.r.Invalid, name+" "+shorten(value))
	}
}

func shorten(value string) string {
	const most = 64
	if len(value) > most {
		return value[:most] + "…"
	}
	return value
}
