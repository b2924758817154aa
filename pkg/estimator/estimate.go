// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// maxGPUs is the largest GPU count that is estimated.
	maxGPUs = 64
	// maxLayers bounds the work of an estimate: engines load 512 layers at most.
	maxLayers = 4096
)

// Estimate returns what m needs on each GPU under s, one option for each of gpuCounts that the engine can use (the
// others are in Refused). Without gpuCounts it takes 1, 2, 4 and 8. dev may be the zero value.
//
// It fails when the engine cannot load the model at all, when a setting makes no sense, and when nothing is known
// of the model's size: an estimate is never zero.
func Estimate(m *Model, s Settings, gpuCounts []int, dev DeviceInfo) (Result, error) {
	if err := ValidateModel(m); err != nil {
		return Result{}, err
	}
	if err := validateSettings(&s); err != nil {
		return Result{}, err
	}
	if len(gpuCounts) == 0 {
		gpuCounts = []int{1, 2, 4, 8}
	}
	e := Result{Options: make([]Option, 0, len(gpuCounts)), Fallback: m.UnknownArchitecture || m.WeightsSource == WeightsFromFileSize}
	sizer, err := EngineOf(s.Runtime).size(m, &s, dev, &e)
	if err != nil {
		return Result{}, err
	}
	for _, n := range gpuCounts {
		if n < 1 || n > maxGPUs {
			return Result{}, fmt.Errorf("GPU count %d is not between 1 and %d", n, maxGPUs)
		}
		if slices.ContainsFunc(e.Options, func(o Option) bool { return o.GPUCount == n }) {
			continue
		}
		if reason := sizer.refuses(n); reason != "" {
			e.Refused = append(e.Refused, Refusal{GPUCount: n, Reason: reason})
			continue
		}
		e.Options = append(e.Options, sizer.option(n))
	}
	if e.Fallback {
		e.Notes = append(e.Notes, "the architecture "+quoteName(m.Architecture)+" is not known, or its configuration is incomplete: "+
			"every layer is taken to attend to the whole context; the real need may differ, so measure it")
	}
	return e, nil
}

// ValidateModel says what of m makes no sense. Every estimate starts with it, since a Model may come from an API object.
func ValidateModel(m *Model) error {
	switch {
	case m == nil:
		return errors.New("there is no model")
	case m.LayerCount > maxLayers || len(m.Layers) > maxLayers:
		return fmt.Errorf("the model has more than %d layers", maxLayers)
	case m.HiddenSize < 0 || m.LayerCount < 0 || m.Embedding < 0 || m.Output < 0:
		return errors.New("the model has a negative dimension")
	case weightsAtLeast(m) == 0 && m.FileSize <= 0:
		return errors.New("the size of the model is not known")
	case len(m.Layers) == 0 && m.LayerCount > 0:
		return fmt.Errorf("the model has %d layers and says nothing of them", m.LayerCount)
	case len(m.LayerOrder) != 0 && len(m.LayerOrder) != int(m.LayerCount):
		return fmt.Errorf("the model has %d layers and an order of %d", m.LayerCount, len(m.LayerOrder))
	case len(m.LayerWeights) != 0 && len(m.LayerWeights) != int(m.LayerCount):
		return fmt.Errorf("the model has %d layers and weights of %d", m.LayerCount, len(m.LayerWeights))
	case len(m.ExpertWeights) != 0 && len(m.ExpertWeights) != int(m.LayerCount):
		return fmt.Errorf("the model has %d layers and experts of %d", m.LayerCount, len(m.ExpertWeights))
	}
	for _, k := range m.LayerOrder {
		if k < 0 || int(k) >= len(m.Layers) {
			return fmt.Errorf("the model names layer kind %d of %d", k, len(m.Layers))
		}
	}
	if m.Draft != nil && (m.Draft.KVKind < 0 || int(m.Draft.KVKind) >= max(len(m.Layers), 1)) {
		return fmt.Errorf("the model's draft names layer kind %d of %d", m.Draft.KVKind, len(m.Layers))
	}
	return nil
}

// weightsAtLeast returns the bytes of weights that are accounted for.
func weightsAtLeast(m *Model) int64 {
	sum := add(m.Embedding, m.Output, m.OtherWeights)
	sum = add(sum, add(m.LayerWeights...), add(m.ExpertWeights...))
	if m.Vision != nil {
		sum = add(sum, m.Vision.Sharded, m.Vision.Replicated)
	}
	for i := range m.Layers {
		w := &m.Layers[i].Weights
		sum = add(sum, mul(add(w.Sharded, w.KV, w.Experts, w.Replicated), int64(m.Layers[i].Count)))
	}
	return sum
}

func notGGUF(m *Model, s *Settings) error {
	return fmt.Errorf("%s loads GGUF files, and this model is %s: convert it, or use runtime vllm", s.Runtime, m.Format)
}

// quoteName quotes a name that came from a file, cut to a reasonable length.
func quoteName(name string) string {
	const longest = 64
	if len(name) > longest {
		name = name[:longest] + "…"
	}
	return fmt.Sprintf("%q", name)
}

// validateSettings says which setting makes no sense, and its right form.
func validateSettings(s *Settings) error {
	if s.Runtime != "" && EngineOf(s.Runtime).Name != s.Runtime {
		return fmt.Errorf("runtime %q is none of %s", s.Runtime, strings.Join(RuntimeNames(), ", "))
	}
	for _, n := range []struct {
		name  string
		value int64
		most  int64
	}{
		{"context length", s.ContextLength, 1 << 30},
		{"parallel", s.Parallel, 1 << 16},
		{"batch size", s.BatchSize, 1 << 24},
		{"micro-batch size", s.MicroBatchSize, 1 << 24},
		{"maximum number of sequences", s.MaxNumSeqs, 1 << 20},
		{"maximum number of batched tokens", s.MaxNumBatchedTokens, 1 << 24},
		{"speculative tokens", s.SpeculativeTokens, 1 << 10},
		{"pipeline-parallel size", s.PipelineParallel, maxGPUs},
		{"block size", s.BlockSize, 1 << 20},
		{"data-parallel size", s.DataParallel, maxGPUs},
		{"batch size with a CUDA graph", s.GraphBatchSize, 1 << 20},
		{"number of tokens of the cache", s.MaxTotalTokens, 1 << 40},
		{"number of LoRAs", s.MaxLoRAs, 1 << 16},
		{"LoRA rank", s.MaxLoRARank, 1 << 16},
		{"GPU memory utilization", s.GPUMemoryUtilization, 1_000_000},
		{"KV cache memory", s.KVCacheMemory, 1 << 50},
		{"number of layers on the CPU", s.CPUExpertLayers, 1 << 20},
	} {
		if n.value < 0 || n.value > n.most {
			return fmt.Errorf("%s %d is not between 0 (the engine's default) and %d", n.name, n.value, n.most)
		}
	}
	for _, kv := range []string{s.KVCacheType, s.KVCacheTypeV} {
		if _, ok := cacheBytes1024(kv); kv != "" && !ok {
			return fmt.Errorf("KV cache type %q is none of %s", kv, strings.Join(cacheTypes(), ", "))
		}
	}
	if !slices.Contains([]string{"", "layer", "row", "tensor", "none"}, s.SplitMode) {
		return fmt.Errorf("split mode %q is none of layer, row, tensor, none", s.SplitMode)
	}
	return nil
}
