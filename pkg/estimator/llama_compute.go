// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// pipelineCopies is how often a layer split over several GPUs keeps the inputs of a graph, so that devices can work
// on different micro-batches (ggml-backend.cpp, GGML_SCHED_MAX_COPIES).
const pipelineCopies = 4

// compute returns the bytes of one device's compute buffer, staging not included.
//
// ggml plans one buffer for the largest moment of the graph: tensors that live at the same time add up, others share
// memory. Three moments can be the largest: the feed-forward layer, attention, and the output. What is an input of
// the graph (the attention mask) lives throughout. The moments below were checked against the measured buffers of
// gguf-parser-go's 125-architecture sweep and of the logs in docs/estimation.md.
func (l *llama) compute(devices int, partial bool) int64 {
	row := mul(l.batch, 4) // bytes of one float32 of each token of the micro-batch
	inputs := add(l.mask(), mul(row, add(l.m.HiddenSize, l.m.InputWidth)))
	if devices > 1 && !l.tensorMode() && !partial {
		inputs = mul(inputs, pipelineCopies)
	}
	largest := max(l.feedForwardMoment(row), l.outputMoment(row))
	for i := range l.m.Layers {
		largest = max(largest, l.mixerMoment(&l.m.Layers[i], row))
	}
	return add(inputs, largest)
}

// mask returns the bytes of the attention masks: one row of cells per token, for full and for windowed layers.
// Float16 with flash attention, float32 without.
func (l *llama) mask() int64 {
	streams, cells := l.streams()
	cells = mul(streams, cells) // each stream has a mask over its own cells, sized for a whole micro-batch
	width := int64(2)
	if !l.flash {
		width = 4
	}
	var full bool
	var window int64
	for i := range l.m.Layers {
		k := &l.m.Layers[i]
		switch {
		case k.Kind == LayerSlidingWindow:
			window = max(window, min(mul(streams, l.windowCells(k.Window)), cells))
		case k.Kind == LayerAttention || k.Kind == LayerLatent:
			full = true
		}
	}
	n := mul(window, l.batch, width)
	if full {
		n = add(n, mul(cells, l.batch, width))
	}
	return n
}

// feedForwardMoment: gate, up and their product (one of them without a gate: activations are computed in place) at
// the width of what a token visits, beside the residual stream, its norm, the result and, where attention runs in
// parallel, its output. Of a mixture, the results of all visited experts live until they are summed, and biases make
// one more copy. Without slack it is 26 MiB of a 512-token batch for Qwen3-0.6B (1024 and 3072 wide, measured 26) and
// 384 MiB of 2048 tokens for Qwen3.5-9B (4096 and 12288, measured 384).
func (l *llama) feedForwardMoment(row int64) int64 {
	width := mul(3, l.m.FeedForward)
	if l.m.Ungated {
		width = l.m.FeedForward
	}
	if x := l.m.Experts; x != nil {
		copies := int64(3)
		if x.Biased {
			copies = 4
		}
		width = max(width, add(mul(x.Used, add(mul(copies, x.FeedForward), l.m.HiddenSize)), mul(3, x.SharedFeedForward)))
	}
	return mul(row, add(width, mul(4, l.m.HiddenSize)))
}

// mixerMoment: what lives while one layer mixes tokens.
func (l *llama) mixerMoment(k *LayerKind, row int64) int64 {
	var widths, scratch int64
	switch {
	case k.LatentDim > 0:
		widths, scratch = l.latentMoment(k)
	case k.KVHeads > 0:
		widths, scratch = l.attentionMoment(k)
	}
	if k.RecurrentWidth > 0 {
		// Queries, keys, values, gates and convolved inputs, and the chunked state products of delta-net layers.
		widths = max(widths, mul(9, k.RecurrentWidth))
		scratch = max(scratch, mul(k.SSMState, 4, l.sequences))
	}
	return add(mul(row, add(mul(3, l.m.HiddenSize), widths)), scratch)
}

// attentionMoment: queries before and after rotation and with their gate, keys, values, and the result; models with
// one fused projection keep all three parts of it alive. A quantized cache is unpacked to float16, all cells of one layer;
// without flash attention the scores of all heads are kept in float32.
func (l *llama) attentionMoment(k *LayerKind) (widths, scratch int64) {
	query, kv := mul(k.Heads, k.KeyDim), mul(k.KVHeads, add(k.KeyDim, k.ValueDim))
	widths = add(mul(3, query), kv, mul(k.Heads, k.ValueDim))
	cells := l.cells(k)
	if l.flash {
		if l.keyBytes < 2048 {
			scratch = mul(cells, k.KVHeads, k.KeyDim, 2)
		}
		if l.valBytes < 2048 {
			scratch = add(scratch, mul(cells, k.KVHeads, k.ValueDim, 2))
		}
		return widths, scratch
	}
	_, perStream := l.streams()
	return widths, mul(min(cells, perStream), k.Heads, l.batch, 4)
}

// latentMoment: MLA's queries before and after they are moved into the latent space, and the result there. Values
// are a view of the keys, so a quantized cache is unpacked once.
func (l *llama) latentMoment(k *LayerKind) (widths, scratch int64) {
	widths = add(mul(k.Heads, k.KeyDim), mul(2, k.Heads, k.LatentDim), mul(k.Heads, max(k.LatentValueDim, k.ValueDim)))
	scratch = 64 * mib // concatenations and permutations, measured on Kimi-K2.7 and GLM-5.2
	cells := l.cells(k)
	switch {
	case !l.flash:
		scratch = add(scratch, mul(cells, k.Heads, l.batch, 4))
	case l.keyBytes < 2048:
		scratch = add(scratch, mul(cells, k.LatentDim, 2))
	}
	if k.IndexerDim > 0 {
		// The scores of the sparse indexer over all cells, and their selection.
		scratch = add(scratch, mul(cells, l.batch, 4)/pipelineCopies)
	}
	return widths, scratch
}

// outputMoment: servers with several slots reserved logits for a whole micro-batch before mid-2026; since then, and
// with one slot, a row per sequence.
func (l *llama) outputMoment(row int64) int64 {
	if l.sequences > 1 && l.build < buildFewOutputs {
		return mul(row, add(l.m.VocabularySize, l.m.HiddenSize))
	}
	return mul(l.sequences, l.m.VocabularySize, 4)
}

// staging is what the first device holds of layers that are not on a GPU while it computes large batches for them:
// the cache of two layers and the matrices of a feed-forward layer that are used together. Those are both of an
// ungated one, the largest of a gated one (half the layer at most), and three quarters of gated experts.
func (l *llama) staging(partial bool) int64 {
	if !partial && !l.s.ExpertsOnCPU {
		return 0
	}
	var layer, experts int64
	for _, n := range l.m.ExpertWeights {
		experts = max(experts, n)
	}
	if x := l.m.Experts; x != nil && !x.Ungated {
		experts = ratio{3, 4}.of(experts)
	}
	if !partial {
		return experts
	}
	for _, n := range l.m.LayerWeights {
		layer = max(layer, n)
	}
	if !l.m.Ungated {
		layer /= 2
	}
	var cache int64
	for i := range l.kinds {
		cache = max(cache, l.kinds[i].kv)
	}
	return add(layer, experts, mul(2, cache))
}

// cudaContext returns what the process holds on a device beside its buffers: CUDA context, cuBLAS workspaces and
// kernels. It grows with the number of multiprocessors; figures are driver totals minus buffers: 107 MiB RTX 4060 Ti,
// 309 RTX 3090, 451 to 456 RTX 4090, about 707 RTX PRO 6000, about 830 B200. Where the name is not known, the memory
// of the device tells its class.
func (l *llama) cudaContext() int64 {
	for _, c := range contexts {
		if containsFold(l.dev.Name, c.name) {
			return c.mib * mib
		}
	}
	switch total := l.dev.Total; {
	case total == 0:
		return 440 * mib
	case total < 17*gib:
		return 240 * mib
	case total < 28*gib:
		return 460 * mib
	case total < 70*gib:
		return 560 * mib
	}
	return 720 * mib
}

// contexts are the bytes of a CUDA context by a part of the device's name.
var contexts = []struct {
	name string
	mib  int64
}{
	{"4060", 160}, {"3060", 200}, {"T4", 200}, {"L4 ", 300}, {"3090", 320}, {"3080", 320}, {"A10 ", 330}, {"4090", 470}, {"L40", 480},
	{"A100", 500}, {"5090", 560}, {"PRO 6000", 720}, {"B200", 860}, {"H200", 640}, {"H100", 640},
}

// companions adds what goes beside the layers: the image tower (weights and activations) to the first device, the
// model's own speculative layers, which are its last ones, to the last.
func (l *llama) companions(first, last *Device) {
	if v := l.m.Vision; v != nil && !l.s.NoVision {
		first.Components.Weights = add(first.Components.Weights, v.Sharded, v.Replicated)
		first.Components.Compute = add(first.Components.Compute, l.visionCompute(v))
	}
	draft := l.m.Draft
	if draft == nil {
		return
	}
	w := draft.Weights
	last.Components.Weights = add(last.Components.Weights, w.Sharded, w.KV, w.Experts, w.Replicated)
	if l.s.SpeculativeTokens > 0 && len(l.m.Layers) > 0 {
		last.Components.KVCache = add(last.Components.KVCache, mul(l.kinds[draft.KVKind].kv, draft.Layers))
	}
}

// visionCompute: activations of the tower over the patches of its largest image; without flash attention the
// scores of all pairs dominate. Checked on gemma-3-4b: 933 MiB of weights and buffers with, 1944 without.
func (l *llama) visionCompute(v *Vision) int64 {
	patches := v.MaxPatches
	if patches == 0 {
		patches = 4096
	}
	row := mul(patches, 4)
	n := mul(row, add(mul(4, v.HiddenSize), v.FeedForward))
	if !l.flash {
		n = add(n, mul(v.Heads, patches, row))
	}
	return n
}
