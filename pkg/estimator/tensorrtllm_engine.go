// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is TensorRT-LLM: trtllm-serve, Triton's backend, and the workers of Dynamo.
//
// It loads the weights, runs the largest batch to see its peak, and then gives a fraction of what is free (0.9 unless
// told) to its cache: (total − peak of everybody on the GPU) × fraction (tensorrt_llm/_torch/pyexecutor/_util.py,
// _cal_max_memory, v1.0). So a process of which N is not cache, started where F is free, holds N + fraction × (F − N).
var _ = register(&Engine{
	Name:  RuntimeTensorRT,
	Title: "TensorRT-LLM",
	Starts: func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool {
			base := path.Base(w)
			return base == "trtllm-serve" || base == "launch_triton_server.py" || w == "dynamo.trtllm" ||
				// Those of LeaderWorkerSet and of Triton's tutorials are called server.py.
				w == "--engine=trtllm" || strings.HasPrefix(w, "--triton_model_repo_dir=") && strings.Contains(w, "tensorrtllm")
		})
	},
	// Triton's images with the backend have it in their tags.
	Image: func(name, tag string) bool {
		return strings.Contains(name, "tensorrt-llm") || strings.Contains(name, "tensorrtllm") || strings.Contains(name, "trtllm") || strings.Contains(tag, "trtllm")
	},
	Release:            tensorrtRelease,
	Flags:              tensorrtFlags,
	Arguments:          tensorrtArguments,
	MeasuresFreeMemory: true,
	Counts:             powersOfTwo,
	Share: &Share{
		Flag:       "--kv_cache_free_gpu_memory_fraction",
		Variable:   "BERTH_FREE_GPU_MEMORY_FRACTION",
		OfFree:     true,
		NeedsModel: true,
		Default:    func(*Settings, DeviceInfo, int) int64 { return 900_000 },
		Outside:    func(*Settings, DeviceInfo, int) (outside, before int64) { return 0, 0 },
	},
	size: func(m *Model, s *Settings, dev DeviceInfo, e *Result) (sizer, error) {
		return newTensorRT(m, s, dev, e)
	},
})

// tensorrtFlags are the flags of trtllm-serve that memory depends on (tensorrt_llm/commands/serve.py, v1.0), which has
// underscores where others have hyphens, and those of Dynamo's worker.
var tensorrtFlags = flags.Table(map[string]flags.Flag{
	"--model --model-path":                    flags.One(setModel),
	"--tp-size --tensor-parallel-size --tp":   flags.One(shards),
	"--pp-size --pipeline-parallel-size --pp": flags.One(stages),
	"--ep-size --expert-parallel-size":        flags.One(expertRanks),
	"--kv-cache-free-gpu-memory-fraction --free-gpu-memory-fraction --kv-cache-free-gpu-mem-fraction": flags.One(fractionBy("BERTH_FREE_GPU_MEMORY_FRACTION")),
	"--max-seq-len":    flags.One(flags.Whole(func(s *Settings) *int64 { return &s.ContextLength })),
	"--max-batch-size": flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxNumSeqs })),
	"--max-num-tokens": flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxNumBatchedTokens })),
	"--kv-cache-dtype": flags.One(flags.Text(func(s *Settings) *string { return &s.KVCacheType })),
	// Files of settings, which are in the image or a volume: max_gpu_total_bytes can only be set there.
	"--extra-llm-api-options --config --extra-engine-args": flags.One(elsewhere),
})

// tensorrtArguments returns the arguments after the program, the model as a flag.
func tensorrtArguments(words []string, _ bool) []string {
	for i, w := range words {
		if path.Base(w) != "trtllm-serve" {
			continue
		}
		rest := words[i+1:]
		if len(rest) > 0 && rest[0] == "serve" {
			rest = rest[1:]
		}
		if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			return append([]string{"--model=" + rest[0]}, rest[1:]...)
		}
		return rest
	}
	return words
}

var tensorrtTag = regexp.MustCompile(`^v?([0-9]{1,2}\.[0-9]{1,4}\.[0-9]{1,4})([.+-]?(rc|post|dev)?[0-9]*)?$`)

func tensorrtRelease(name, tag string) string {
	match := tensorrtTag.FindStringSubmatch(tag)
	if match == nil || !strings.Contains(name, "tensorrt-llm") {
		return ""
	}
	return match[1]
}

// tensorrt estimates what TensorRT-LLM allocates on each device.
type tensorrt struct {
	vllm // which shards weights and keeps caches in the same way
}

func newTensorRT(m *Model, s *Settings, dev DeviceInfo, e *Result) (*tensorrt, error) {
	own := *s
	own.Version = "" // vLLM's figures by release are not its
	v, err := newVLLM(m, &own, dev, e)
	if err != nil {
		return nil, err
	}
	t := &tensorrt{*v}
	t.s = s
	t.block = 32 // tokens_per_block (llmapi/llm_args.py, KvCacheConfig)
	if s.MaxNumBatchedTokens == 0 {
		t.batchedTokens = 8192 // max_num_tokens (llmapi/llm_args.py, BuildConfig)
	}
	t.utilization = s.GPUMemoryUtilization
	if t.utilization == 0 {
		t.utilization = 900_000
	}
	e.Utilization, e.Used, e.Assumed = t.utilization, *s, nil
	e.use("contextLength", &e.Used.ContextLength, s.ContextLength, t.context)
	e.use("parallel", &e.Used.Parallel, s.Parallel, t.requests)
	e.use("maxNumBatchedTokens", &e.Used.MaxNumBatchedTokens, s.MaxNumBatchedTokens, t.batchedTokens)
	if !s.UtilizationHandedOver {
		e.use("gpuMemoryUtilization", &e.Used.GPUMemoryUtilization, s.GPUMemoryUtilization, t.utilization)
	}
	e.Notes = append(e.Notes, "TensorRT-LLM: no public measurements are at hand; activations and the engine's own memory are those of NVIDIA's aiconfigurator")
	return t, nil
}

// option estimates n GPUs: the same on each rank of a pipeline stage.
func (t *tensorrt) option(n int) Option {
	tp := int64(n) / t.pp
	o := Option{GPUCount: n, TensorParallelSize: int(tp), Devices: make([]Device, 0, n), Feasible: true}
	engine := add(startup(1, false), communication(int64(n)), 3584*mib)
	for stage := range t.pp {
		kv := t.cache(tp, stage)
		d := Device{Components: Components{
			Weights: t.weights(tp, stage), KVCache: mul(kv.attention, t.requests), RecurrentState: mul(kv.recurrent, t.requests),
			Compute: t.activations(tp), Engine: engine,
		}}
		d.Total = d.Components.Sum()
		o.Outside = max(o.Outside, add(d.Components.Weights, d.Components.Compute, engine))
		for range tp {
			o.Devices = append(o.Devices, d)
		}
		o.KVBytesPerToken = max(o.KVBytesPerToken, ceilDiv(add(kv.attention, kv.recurrent), t.context))
	}
	o.Before = o.Outside
	slices.SortStableFunc(o.Devices, func(a, b Device) int { return compare(b.Total, a.Total) })
	if total := t.dev.Total; total > 0 {
		t.judge(&o, total)
	}
	return o
}

// activations are 2 bytes × tokens × width × a factor of the kind of model and the number of ranks (ai-dynamo/
// aiconfigurator, memory model of its TensorRT-LLM backend: 11, 6.5 and 5 for Llama on 1, 2 and 4 GPUs and more, twice that
// for mixtures of experts), at least 70 MiB.
func (t *tensorrt) activations(tp int64) int64 {
	factor := ratio{5, 1}
	switch tp {
	case 1:
		factor = ratio{11, 1}
	case 2:
		factor = ratio{13, 2}
	}
	n := factor.of(mul(2, t.batchedTokens, t.m.HiddenSize))
	if t.m.Experts != nil {
		n = mul(2, n)
	}
	return max(n, 70*mib)
}

// communication is NCCL's (the same source: 342, 392 and 392 MiB for 2, 4 and 8 GPUs).
func communication(gpus int64) int64 {
	switch {
	case gpus == 1:
		return 0
	case gpus == 2:
		return 342 * mib
	}
	return 392 * mib
}

// judge decides whether the option can start on the known device, with nothing else on it.
func (t *tensorrt) judge(o *Option, total int64) {
	first := &o.Devices[0]
	cache := add(first.Components.KVCache, first.Components.RecurrentState)
	switch {
	case first.Total > total:
		o.Feasible, o.Reason = false, fmt.Sprintf("needs %s of a device's %s", human(first.Total), human(total))
	case t.s.UtilizationHandedOver:
	default:
		share := fraction(sub(total, o.Outside), t.utilization)
		o.Take = add(o.Outside, share)
		if cache > share {
			o.Feasible, o.Reason = false, fmt.Sprintf("its cache needs %s of the %s that it takes of what is free", human(cache), human(share))
		}
	}
}
