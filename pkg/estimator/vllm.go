// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"fmt"
	"slices"
)

// vllm estimates what vLLM does at start: it loads the weights, runs one step of the largest batch to see the peak
// of activations, captures CUDA graphs, and gives what is left of its fraction of the device to the KV cache.
type vllm struct {
	m       *Model
	s       *Settings
	dev     DeviceInfo
	version version
	// pp is the stages of a pipeline, copies those of the model, each on GPUs of its own.
	pp, copies int64
	context    int64
	// requests is how many requests of the whole context the cache must hold.
	requests      int64
	maxSeqs       int64
	batchedTokens int64
	block         int64
	kvBytes1024   int64
	utilization   int64
}

const (
	// defaultUtilization is in parts per million: 0.90 up to v0.19, 0.92 from v0.22 (vllm/config/cache.py).
	defaultUtilization    = 920_000
	defaultUtilizationOld = 900_000
	// contextWhenUnknown is taken when neither settings nor model say how long the context is.
	contextWhenUnknown = 4096
)

func newVLLM(m *Model, s *Settings, dev DeviceInfo, e *Result) (*vllm, error) {
	v := &vllm{m: m, s: s, dev: dev, version: parseVersion(s.Version)}
	if s.DraftModel != "" {
		if s.UtilizationHandedOver {
			return nil, fmt.Errorf("the draft model %s is loaded beside the model, and its size is not known here: "+
				"measure both together, and set berth.dev/gpu-memory", quoteName(s.DraftModel))
		}
		e.Notes = append(e.Notes, "the draft model "+quoteName(s.DraftModel)+" is loaded beside the model; its weights and cache, which are not in "+
			"this estimate, take from the cache inside the fraction")
	}
	v.pp, v.copies = max(s.PipelineParallel, 1), max(s.DataParallel, 1)
	v.context = s.ContextLength
	if v.context == 0 {
		v.context = m.ContextLength
	}
	if v.context == 0 {
		v.context = contextWhenUnknown
		e.Notes = append(e.Notes, "the model does not say its context length: 4096 tokens assumed")
	}
	v.requests = max(s.Parallel, 1)
	v.block = s.BlockSize
	if v.block == 0 {
		v.block = 16
	}
	v.maxSeqs, v.batchedTokens = v.limits()
	v.kvBytes1024 = v.cacheElement()
	if note := releaseNote(v.version); note != "" {
		e.Notes = append(e.Notes, note)
	}
	v.utilization = s.GPUMemoryUtilization
	if v.utilization == 0 {
		v.utilization = DefaultUtilization(s.Version)
	}
	e.Utilization = v.utilization
	v.record(e)
	if q := s.Quantization; q != "" && q != "fp8" && q != "bitsandbytes" && v.unquantized() {
		e.Notes = append(e.Notes, "the configuration says nothing of quantization "+quoteName(q)+": its usual width assumed; use the checkpoint's own config.json")
	}
	return v, nil
}

// record says what the estimate rests on.
func (v *vllm) record(e *Result) {
	s := v.s
	e.Used = *s
	release := s.Version
	if v.version == newest {
		release = fmt.Sprintf("0.%d", newestMeasured)
	}
	e.useWord("version", &e.Used.Version, s.Version, release)
	e.use("contextLength", &e.Used.ContextLength, s.ContextLength, v.context)
	e.use("parallel", &e.Used.Parallel, s.Parallel, v.requests)
	if !v.pooling() {
		e.use("maxNumSeqs", &e.Used.MaxNumSeqs, s.MaxNumSeqs, v.maxSeqs)
	}
	e.use("maxNumBatchedTokens", &e.Used.MaxNumBatchedTokens, s.MaxNumBatchedTokens, v.batchedTokens)
	if !s.UtilizationHandedOver && s.KVCacheMemory == 0 {
		e.use("gpuMemoryUtilization", &e.Used.GPUMemoryUtilization, s.GPUMemoryUtilization, v.utilization)
	}
}

// limits returns max_num_seqs and max_num_batched_tokens. The defaults of the server follow the device: cards of
// 70 GiB and more (A100 excepted) get 1024 and 8192, others 256 and 2048 (vllm/engine/arg_utils.py,
// get_batch_defaults; the H100 logs say the same). An unknown device gets the larger ones.
func (v *vllm) limits() (seqs, tokens int64) {
	seqs, tokens = 1024, 8192
	if v.dev.Total > 0 && v.dev.Total < 70*gib || containsFold(v.dev.Name, "A100") {
		seqs, tokens = 256, 2048
	}
	if v.s.MaxNumSeqs > 0 {
		seqs = v.s.MaxNumSeqs
	}
	if v.s.MaxNumBatchedTokens > 0 {
		tokens = v.s.MaxNumBatchedTokens
	} else {
		tokens = max(min(tokens, mul(seqs, v.context)), seqs)
	}
	return min(seqs, tokens), tokens
}

// cacheElement returns 1024 times the bytes of one cached element. "auto" follows the model's type, or the FP8
// scales that the checkpoint brings, which engines use from v0.12 on.
func (v *vllm) cacheElement() int64 {
	if t := v.s.KVCacheType; t != "" && t != "auto" {
		b, _ := cacheBytes1024(t)
		return b
	}
	if v.m.KVCacheScheme == "fp8" && v.version.atLeast(0, 12) {
		return 1024
	}
	return 1024 * v.elementBytes()
}

// elementBytes returns the bytes of the type that the engine computes in. "auto" turns FP32 checkpoints into
// 16 bit.
func (v *vllm) elementBytes() int64 {
	if v.s.DType == "float32" || v.s.DType == "float" {
		return 4
	}
	return 2
}

// refuses: vLLM asserts that the tensor-parallel size divides the attention heads, the padded vocabulary and the
// feed-forward widths, and that it divides the key/value heads or is a multiple of them.
func (v *vllm) refuses(n int) string {
	if int64(n)%v.copies != 0 {
		return fmt.Sprintf("data-parallel size %d does not divide %d GPUs", v.copies, n)
	}
	n /= int(v.copies)
	if int64(n)%v.pp != 0 {
		return fmt.Sprintf("pipeline-parallel size %d does not divide %d GPUs", v.pp, n)
	}
	tp := int64(n) / v.pp
	if tp == 1 {
		return ""
	}
	if v.m.Heads%tp != 0 {
		return fmt.Sprintf("tensor-parallel size %d does not divide the model's %d attention heads", tp, v.m.Heads)
	}
	if kv := v.m.KVHeads; kv > 0 && kv%tp != 0 && tp%kv != 0 {
		return fmt.Sprintf("tensor-parallel size %d neither divides the model's %d key/value heads nor is a multiple of them", tp, kv)
	}
	if roundUp(v.m.VocabularySize, 64)%tp != 0 {
		return fmt.Sprintf("the vocabulary of %d is not divisible by tensor-parallel size %d", v.m.VocabularySize, tp)
	}
	if v.m.FeedForward%tp != 0 {
		return fmt.Sprintf("the feed-forward width of %d is not divisible by tensor-parallel size %d", v.m.FeedForward, tp)
	}
	if x := v.m.Experts; x != nil && !v.s.ExpertParallel && x.FeedForward%tp != 0 {
		return fmt.Sprintf("the experts' width of %d is not divisible by tensor-parallel size %d", x.FeedForward, tp)
	}
	if v.pp > int64(v.m.LayerCount) {
		return fmt.Sprintf("pipeline-parallel size %d is more than the model's %d layers", v.pp, v.m.LayerCount)
	}
	return ""
}

// option estimates n GPUs: the same on each rank of a pipeline stage.
func (v *vllm) option(n int) Option {
	tp := int64(n) / (v.pp * v.copies)
	o := Option{GPUCount: n, TensorParallelSize: int(tp), Devices: make([]Device, 0, n)}
	graphs := v.graphs()
	inside, outside := add(v.nonTorch(tp), allocatorSlack), add(v.startup(int64(n)), v.samplerAfter())
	if !v.version.atLeast(0, 21) {
		outside = add(outside, graphs) // captured after the budget was spent
	} else {
		inside = add(inside, graphs)
	}
	o.Outside = outside
	for stage := range v.pp {
		kv := v.cache(tp, stage)
		d := Device{Components: Components{
			Weights:        v.stageWeights(tp*v.copies, tp, stage),
			KVCache:        mul(kv.attention, v.requests),
			RecurrentState: mul(kv.recurrent, v.requests),
			Compute:        v.activations(tp, stage),
			Engine:         add(inside, outside),
		}}
		if v.s.KVCacheMemory > 0 {
			d.Components.KVCache = sub(v.s.KVCacheMemory, d.Components.RecurrentState)
		}
		d.Total = d.Components.Sum()
		for range tp * v.copies {
			o.Devices = append(o.Devices, d)
		}
		o.KVBytesPerToken = max(o.KVBytesPerToken, ceilDiv(add(kv.attention, kv.recurrent), v.context))
	}
	slices.SortStableFunc(o.Devices, func(a, b Device) int { return compare(b.Total, a.Total) })
	v.judge(&o)
	return o
}

// judge decides whether the option can start on the known device.
//
// vLLM refuses to start when less than utilization × total is free after CUDA and NCCL have started, and when what
// is left of the fraction does not hold one request (vllm/v1/worker/gpu_worker.py, kv_cache_utils.py).
func (v *vllm) judge(o *Option) {
	o.Feasible = true
	if limit := v.m.ContextLength; limit > 0 && v.context > limit && !v.s.LongContext && v.s.Runtime == RuntimeVLLM {
		o.Feasible = false
		o.Reason = fmt.Sprintf("the context of %d tokens is longer than the model's %d: vLLM refuses to start (unless "+
			"VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 or --hf-overrides extend it)", v.context, limit)
		return
	}
	total := v.dev.Total
	if total == 0 {
		return
	}
	first := &o.Devices[0]
	if v.s.UtilizationHandedOver || v.s.KVCacheMemory > 0 {
		if first.Total > total {
			o.Feasible = false
			o.Reason = fmt.Sprintf("needs %s of a device's %s", human(first.Total), human(total))
		}
		return
	}
	requested := fraction(total, v.utilization)
	o.Take = add(requested, o.Outside)
	c := &first.Components
	inside := add(c.Weights, c.KVCache, c.RecurrentState, c.Compute, sub(c.Engine, o.Outside))
	switch {
	case inside > requested:
		o.Feasible = false
		o.Reason = fmt.Sprintf("needs %s inside a memory fraction of %s (%.2f of %s)",
			human(inside), human(requested), float64(v.utilization)/1e6, human(total))
	case sub(o.Take, v.samplerAfter()) > total:
		o.Feasible = false
		o.Reason = fmt.Sprintf("takes %s inside its fraction and %s outside it, of a device's %s",
			human(requested), human(sub(o.Outside, v.samplerAfter())), human(total))
	case add(o.Take, first.Components.Compute) > total:
		// The sampler is warmed up after the cache has taken the rest of the fraction.
		o.Tight = true
		o.Take = min(o.Take, total)
		o.Reason = fmt.Sprintf("%s are left outside the fraction, less than one more peak of activations (%s): a lower "+
			"utilization is safer", human(sub(total, o.Take)), human(first.Components.Compute))
	}
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
