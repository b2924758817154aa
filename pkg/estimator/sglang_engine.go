// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is SGLang.
//
// It looks at what is free on its GPUs once CUDA and NCCL have started, loads the weights, and makes the pool of its
// cache so that weights and pool together are --mem-fraction-static of that: rest = free after loading − free before ×
// (1 − fraction) (model_executor/model_runner_kv_cache_mixin.py, _profile_available_bytes, v0.5; the least free of all
// ranks counts). So the fraction is one of what is free, not of the device. Activations, CUDA graphs and the table of
// requests lie outside of it.
var _ = register(&Engine{
	Name:  RuntimeSGLang,
	Title: "SGLang",
	Starts: func(words []string) bool {
		for i, w := range words {
			if w == "sglang.launch_server" || w == "dynamo.sglang" || path.Base(w) == "sglang" && i+1 < len(words) && words[i+1] == "serve" {
				return true
			}
		}
		return false
	},
	Image: func(name, _ string) bool {
		base := path.Base(name)
		return strings.Contains(base, "sglang") && !strings.Contains(base, "router") && !strings.Contains(base, "gateway")
	},
	Release:   sglangRelease,
	Flags:     sglangFlags,
	Arguments: sglangArguments,
	Settle: func(s *flags.Scanner) {
		if value, ok := s.Env.Lookup("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"); ok && (flags.Truthy(value) || strings.ContainsRune(value, flags.UnknownMark)) {
			s.Settings.LongContext = true
		}
		// model_runner.py, init_torch_distributed: one has less than 0.9 of what is free on another.
		if value, ok := s.Env.Lookup("SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK"); !ok || flags.Truthy(value) {
			s.OnSeveral = "SGLang refuses to start on GPUs whose free memory differs by more than a tenth; where it shares GPUs, set " +
				"SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK=0"
		}
		if s.Settings.DPAttention {
			s.DataParallel = flags.Number{} // the ranks are those of tensor parallelism
		}
	},
	MeasuresFreeMemory: true,
	Counts:             powersOfTwo,
	Share: &Share{
		Flag:     "--mem-fraction-static",
		Variable: "BERTH_MEM_FRACTION_STATIC",
		OfFree:   true,
		Default:  func(s *Settings, dev DeviceInfo, gpus int) int64 { return newSGLangRules(s, dev).fraction(int64(gpus)) },
		Outside: func(s *Settings, dev DeviceInfo, gpus int) (outside, before int64) {
			before = startup(int64(gpus), true)
			// The table of 4096 requests of 128 Ki tokens.
			return add(before, newSGLangRules(s, dev).reserved(int64(gpus)), requestTable(sglangMostRequests, 128*kib)), before
		},
	},
	size: func(m *Model, s *Settings, dev DeviceInfo, e *Result) (sizer, error) { return newSGLang(m, s, dev, e) },
})

// sglangFlags are the flags of SGLang's server that memory depends on (python/sglang/srt/server_args.py, v0.5).
var sglangFlags = flags.Table(map[string]flags.Flag{
	"--model-path --model":                    flags.One(setModel),
	"--tp --tp-size --tensor-parallel-size":   flags.One(shards),
	"--pp --pp-size --pipeline-parallel-size": flags.One(stages),
	"--dp --dp-size --data-parallel-size": flags.One(func(s *flags.Scanner, name, value string) {
		flags.Reference("", func(r *flags.Result) *flags.Number { return &r.DataParallel }, flags.ParseCount)(s, name, value)
		s.Settings.DataParallel = s.DataParallel.Value
	}),
	"--mem-fraction-static": flags.One(fractionBy("BERTH_MEM_FRACTION_STATIC")),
	"--max-total-tokens": flags.One(func(s *flags.Scanner, name, value string) {
		flags.Reference("", func(r *flags.Result) *flags.Number { return &r.KVCacheMemory }, flags.ParseNumber)(s, name, value)
		s.Settings.MaxTotalTokens = s.KVCacheMemory.Value
	}),
	"--context-length":                               flags.One(flags.Whole(func(s *Settings) *int64 { return &s.ContextLength })),
	"--max-running-requests":                         flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxNumSeqs })),
	"--chunked-prefill-size":                         flags.One(setChunk),
	"--cuda-graph-max-bs --cuda-graph-max-bs-decode": flags.One(flags.Whole(func(s *Settings) *int64 { return &s.GraphBatchSize })),
	"--disable-cuda-graph":                           flags.None(flags.Boolean(func(s *Settings) *bool { return &s.EnforceEager }, true)),
	"--enable-dp-attention":                          flags.None(flags.Boolean(func(s *Settings) *bool { return &s.DPAttention }, true)),
	"--ep --ep-size --expert-parallel-size":          flags.One(expertRanks),
	"--kv-cache-dtype":                               flags.One(flags.Text(func(s *Settings) *string { return &s.KVCacheType })),
	"--page-size":                                    flags.One(flags.Whole(func(s *Settings) *int64 { return &s.BlockSize })),
	"--dtype":                                        flags.One(flags.Text(func(s *Settings) *string { return &s.DType })),
	"--quantization":                                 flags.One(flags.Text(func(s *Settings) *string { return &s.Quantization })),
	"--is-embedding":                                 flags.None(flags.Boolean(func(s *Settings) *bool { return &s.Embeddings }, true)),
	"--json-model-override-args":                     flags.One(func(s *flags.Scanner, _, _ string) { s.Settings.LongContext = true }),
	"--max-loras-per-batch":                          flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxLoRAs })),
	"--max-lora-rank":                                flags.One(flags.Whole(func(s *Settings) *int64 { return &s.MaxLoRARank })),
	"--speculative-algorithm": flags.One(func(s *flags.Scanner, name, value string) {
		if s.Classify(name, value) && s.Settings.SpeculativeTokens == 0 && !strings.EqualFold(value, "NGRAM") {
			s.Settings.SpeculativeTokens = 4
		}
	}),
	"--speculative-num-draft-tokens": flags.One(flags.Whole(func(s *Settings) *int64 { return &s.SpeculativeTokens })),
	"--speculative-draft-model-path --speculative-draft-model": flags.One(func(s *flags.Scanner, name, value string) {
		if s.Classify(name, value) && value != s.Model {
			s.Settings.DraftModel = flags.Shorten(value)
		}
	}),
	// A file of flags, which is in the image or a volume.
	"--config": flags.One(elsewhere),
})

// setChunk reads --chunked-prefill-size; −1 switches chunks off, and --max-prefill-tokens (16384) limits a batch.
func setChunk(s *flags.Scanner, name, value string) {
	if value == "-1" {
		value = "16384"
	}
	flags.Whole(func(s *Settings) *int64 { return &s.MaxNumBatchedTokens })(s, name, value)
}

// sglangArguments returns the arguments after the program.
func sglangArguments(words []string, _ bool) []string {
	for i, w := range words {
		if w == "sglang.launch_server" || w == "dynamo.sglang" {
			return words[i+1:]
		}
	}
	return words
}

var sglangTag = regexp.MustCompile(`^v?([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})([.+-].*|rc.*)?$`)

func sglangRelease(name, tag string) string {
	match := sglangTag.FindStringSubmatch(tag)
	if match == nil || countsOtherwise(name) || !strings.Contains(name, "sglang") {
		return ""
	}
	return match[1]
}

// sglangRules are the defaults that follow the device (server_args.py, _handle_gpu_memory_settings, v0.5.6), in MiB.
type sglangRules struct {
	s      *Settings
	memory int64 // MiB of a device, 0 if it is not known
}

func newSGLangRules(s *Settings, dev DeviceInfo) sglangRules { return sglangRules{s, dev.Total / mib} }

// chunk is the tokens of one prefill.
func (r sglangRules) chunk() int64 {
	switch m := r.memory; {
	case r.s.MaxNumBatchedTokens > 0:
		return r.s.MaxNumBatchedTokens
	case m > 0 && m < 35*1024:
		return 2048
	case m > 0 && m < 60*1024:
		return 4096
	case m >= 160*1024:
		return 16384
	}
	return 8192
}

// graphBatch is the largest batch with a CUDA graph.
func (r sglangRules) graphBatch(tp int64) int64 {
	pick := func(few, many int64) int64 {
		if tp < 4 {
			return few
		}
		return many
	}
	switch m := r.memory; {
	case r.s.EnforceEager:
		return 0
	case r.s.GraphBatchSize > 0:
		return r.s.GraphBatchSize
	case m > 0 && m < 20*1024:
		return 8
	case m > 0 && m < 35*1024:
		return pick(24, 80)
	case m > 0 && m < 60*1024:
		return pick(32, 160)
	case m > 0 && m < 160*1024:
		return pick(256, 512)
	}
	return 512
}

// reserved is what SGLang leaves beside weights and pool when it is not told, in bytes.
func (r sglangRules) reserved(gpus int64) int64 {
	n := 512 + max(r.chunk(), 2048)*3/2 + 2*r.graphBatch(gpus) + gpus*1024/8
	if r.s.DPAttention {
		n += 3 * r.graphBatch(gpus) * max(r.s.DataParallel, 1)
	}
	if r.memory > 60*1024 {
		n = max(n, 10*1024)
	}
	if r.s.SpeculativeTokens > 0 {
		n += 2 * 1024
	}
	return mul(n, mib)
}

// fraction is the default of --mem-fraction-static in parts per million, rounded to three decimals.
func (r sglangRules) fraction(gpus int64) int64 {
	if r.memory == 0 {
		return 880_000
	}
	left := max(r.memory-r.reserved(gpus)/mib, 0)
	return (left*1000 + r.memory/2) / r.memory * 1000
}

// sglangMostRequests is the most requests that the table of requests is made for by default (resolve_max_num_reqs).
const sglangMostRequests = 4096

// requestTable is the table of the cache's places of each token of each request: four bytes each (mem_cache/
// memory_pool.py, ReqToTokenPool). It is made after the pool has taken the rest of the fraction.
func requestTable(requests, context int64) int64 { return mul(4, requests, context) }

// sglang estimates what SGLang allocates on each device.
type sglang struct {
	vllm  // which shards weights in the same way
	rules sglangRules
}

func newSGLang(m *Model, s *Settings, dev DeviceInfo, e *Result) (*sglang, error) {
	own := *s
	own.Version = "" // vLLM's figures by release are not its
	own.DataParallel = 0
	v, err := newVLLM(m, &own, dev, e)
	if err != nil {
		return nil, err
	}
	g := &sglang{vllm: *v, rules: newSGLangRules(s, dev)}
	g.s = s
	g.block, g.batchedTokens = max(s.BlockSize, 1), g.rules.chunk()
	e.Utilization = cmp.Or(s.GPUMemoryUtilization, g.rules.fraction(1))
	e.Used, e.Assumed = *s, nil
	e.use("contextLength", &e.Used.ContextLength, s.ContextLength, g.context)
	e.use("parallel", &e.Used.Parallel, s.Parallel, g.requests)
	e.use("maxNumBatchedTokens", &e.Used.MaxNumBatchedTokens, s.MaxNumBatchedTokens, g.batchedTokens)
	if !s.UtilizationHandedOver && s.MaxTotalTokens == 0 {
		e.use("gpuMemoryUtilization", &e.Used.GPUMemoryUtilization, s.GPUMemoryUtilization, e.Utilization)
	}
	return g, nil
}

// ranks returns the tensor-parallel size on n GPUs and that of attention: with data-parallel attention, each group of
// ranks attends for itself.
func (g *sglang) ranks(n int64) (tp, attention int64) {
	tp = n / g.pp
	if g.s.DPAttention {
		return tp, max(tp/max(g.s.DataParallel, 1), 1)
	}
	tp = max(tp/max(g.s.DataParallel, 1), 1)
	return tp, tp
}

func (g *sglang) refuses(n int) string {
	replicas := max(g.s.DataParallel, 1)
	if int64(n)%(g.pp*replicas) != 0 {
		return fmt.Sprintf("pipeline-parallel size %d and data-parallel size %d do not divide %d GPUs", g.pp, replicas, n)
	}
	tp, _ := g.ranks(int64(n))
	return g.vllm.refuses(int(tp * g.pp))
}

// option estimates n GPUs: the same on each rank of a pipeline stage.
func (g *sglang) option(n int) Option {
	tp, attention := g.ranks(int64(n))
	o := Option{GPUCount: n, TensorParallelSize: int(tp), Devices: make([]Device, 0, n), Feasible: true}
	o.Before = startup(int64(n), g.m.Experts != nil)
	o.Outside = add(o.Before, g.dynamic(tp, int64(n)))
	for stage := range g.pp {
		cache, state := g.pool(attention, stage)
		d := Device{Components: Components{
			Weights: g.stageWeights(tp, attention, stage), KVCache: cache, RecurrentState: state,
			Compute: sub(o.Outside, o.Before), Engine: o.Before,
		}}
		d.Total = d.Components.Sum()
		for range n / int(g.pp) {
			o.Devices = append(o.Devices, d)
		}
		o.KVBytesPerToken = max(o.KVBytesPerToken, g.cell(attention, stage))
	}
	slices.SortStableFunc(o.Devices, func(a, b Device) int { return compare(b.Total, a.Total) })
	g.judge(&o, n)
	return o
}

// cell is the bytes of one token in the pool of one rank. Every layer that attends keeps every token: of windows, some
// architectures have a smaller pool of their own, which is not counted on.
func (g *sglang) cell(attention, stage int64) int64 {
	layers := g.stageLayers(stage)
	var n int64
	for i := range g.m.Layers {
		k := &g.m.Layers[i]
		n = add(n, mul(add(g.perToken(k, attention), indexerBytes(k)), layers.count(i)))
	}
	if d := g.m.Draft; d != nil && g.s.SpeculativeTokens > 0 && stage == g.pp-1 && int(d.KVKind) < len(g.m.Layers) {
		n = add(n, mul(d.Layers, g.perToken(&g.m.Layers[d.KVKind], attention)))
	}
	return n
}

// pool is what the cache needs: the requests of the whole context or --max-total-tokens, in whole pages. The states of
// hybrids have a pool of their own, of 0.9 times the other (--mamba-full-memory-ratio), and at least five states a
// request (model_runner_kv_cache_mixin.py, _calculate_mamba_ratio).
func (g *sglang) pool(attention, stage int64) (cache, state int64) {
	tokens := mul(g.requests, g.context)
	if g.s.MaxTotalTokens > 0 {
		tokens = g.s.MaxTotalTokens
	}
	cache = mul(g.cell(attention, stage), roundUp(tokens, g.block))
	layers := g.stageLayers(stage)
	for i := range g.m.Layers {
		state = add(state, mul(g.state(&g.m.Layers[i], attention), layers.count(i)))
	}
	if state > 0 {
		state = max(mul(state, g.requests, 5+g.s.SpeculativeTokens), ratio{9, 10}.of(cache))
	}
	return cache, state
}

// dynamic is what is allocated outside of the fraction: constants, activations of a prefill (twice the forward pass of
// one layer), CUDA graphs, the sampler, and the table of requests. SGLang's own reserve is taken where it is less.
//
// Measured when the server was ready (docs/estimation.md): 0.11 GiB for 4 graphs, 1.04 for 36, 1.44 for 52; graphs of
// prefills up to 1.6 GiB; 1.25 GiB between pool and graphs for a table of 2048 requests of 131072 tokens.
func (g *sglang) dynamic(tp, gpus int64) int64 {
	n := add(512*mib, mul(2, g.forward(tp)))
	if batch := g.rules.graphBatch(gpus); batch > 0 {
		n = add(n, mul(28*mib, 4+batch/8), 1638*mib)
	}
	if g.m.Vision != nil && !g.s.NoVision {
		n = add(n, 1024*mib)
	}
	requests := g.s.MaxNumSeqs
	if requests == 0 {
		requests = max(min(mul(512, g.requests), sglangMostRequests), 2048)
	}
	// A request that runs has some tokens in the pool.
	rows := min(requests, max(512, mul(g.requests, g.context)/64))
	if !g.pooling() {
		n = add(n, mul(12, rows, g.m.VocabularySize))
	}
	return add(min(n, g.rules.reserved(gpus)), requestTable(requests, g.context))
}

// judge decides whether the option can start on the known device, with nothing else on it.
func (g *sglang) judge(o *Option, n int) {
	if limit := g.m.ContextLength; limit > 0 && g.context > limit && !g.s.LongContext {
		o.Feasible, o.Reason = false, fmt.Sprintf("the context of %d tokens is longer than the model's %d: SGLang refuses to start "+
			"(unless SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1)", g.context, limit)
		return
	}
	total, first := g.dev.Total, &o.Devices[0]
	if total == 0 {
		return
	}
	if g.s.UtilizationHandedOver || g.s.MaxTotalTokens > 0 {
		if first.Total > total {
			o.Feasible, o.Reason = false, fmt.Sprintf("needs %s of a device's %s", human(first.Total), human(total))
		}
		return
	}
	static := fraction(sub(total, o.Before), cmp.Or(g.s.GPUMemoryUtilization, g.rules.fraction(int64(n))))
	o.Take = add(static, o.Outside)
	if inside := sub(first.Total, o.Outside); inside > static {
		o.Feasible, o.Reason = false, fmt.Sprintf("weights and cache need %s inside a static fraction of %s", human(inside), human(static))
	}
}
