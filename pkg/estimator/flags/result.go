// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import "github.com/berth-dev/berth/pkg/model"

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
	Runtime model.Runtime
	// Model is what the engine is told to load, as it is written; empty when it is not said or not known.
	Model string
	// Settings are the engine's settings that are literals. Its Runtime is that of the result.
	Settings model.Settings
	// TensorParallel and PipelineParallel are the sizes of an engine that cuts layers; DataParallel is how many copies of
	// the model it makes, each on GPUs of its own.
	TensorParallel, PipelineParallel, DataParallel Number
	// GPUMemoryUtilization is in parts per million.
	GPUMemoryUtilization Number
	// KVCacheMemory is vLLM's --kv-cache-memory-bytes.
	KVCacheMemory Number
	// TensorSplit is where llama.cpp's --tensor-split comes from.
	TensorSplit Source
	// OnSeveral is what whoever runs it on several GPUs should know, for people.
	OnSeveral string
	// Unknown are the settings, by flag or variable, whose values cannot be known, in order.
	Unknown []string
	// Invalid are the settings whose values make no sense to the engine, in order, as "--flag value".
	Invalid []string
}
