// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// pipelineCopies is how often a layer split over several GPUs keeps the inputs of a graph, so that devices can work
// on different micro-batches (ggml-backend.cpp, GGML_SCHED_MAX_COPIES).
const pipelineCopies = 4

// pipelined says whether inputs are kept several times: over several GPUs with every layer, every expert and the
// cache on them (llama-context.cpp, pipeline_parallel).
func (l *llama) pipelined(devices int) bool {
	return devices > 1 && !l.tensorMode() && l.gpuLayers >= l.units() && !l.s.NoKVOffload && !l.s.ExpertsOnCPU
}

// inputs returns what comes to a device from elsewhere: the masks, the residual stream, and what crosses from the
// device before. kinds are the kinds of layers on the device.
func (l *llama) inputs(shares []share, i int, kinds []bool) int64 {
	row := l.row()
	stream := l.m.HiddenSize // of device 0: embeddings of tokens
	if i > 0 && l.m.StreamWidth > 0 {
		stream = mul(2, l.m.StreamWidth) // before and after the connections are mixed (seen by running)
	}
	n := add(l.mask(kinds), mul(row, add(stream, l.m.InputWidth)))
	crossing, largest := l.crossing(shares, i)
	if l.pipelined(len(shares)) {
		n = mul(add(n, crossing), pipelineCopies)
		if i == 0 {
			n = add(n, mul(row, l.m.InputWidth)) // per-layer embeddings are projected from a copy
		}
		return n
	}
	return add(n, largest) // one copy at a time
}

// mask returns the bytes of the attention masks: one row of cells per token, for full and for windowed layers.
// Float16 with flash attention, float32 without.
func (l *llama) mask(kinds []bool) int64 {
	var full, window int64
	for i := range l.m.Layers {
		k := &l.m.Layers[i]
		if !kinds[i] || l.onHost(k) {
			continue
		}
		switch n := l.maskOf(k); {
		case k.Kind == LayerSlidingWindow:
			window = max(window, n)
		default:
			full = max(full, n)
		}
	}
	return add(full, window)
}

// maskOf returns the mask of a kind of layer. Each stream has one over its own cells, sized for a whole micro-batch.
func (l *llama) maskOf(k *LayerKind) int64 {
	width := int64(2)
	if !l.flash {
		width = 4
	}
	switch k.Kind {
	case LayerAttention, LayerLatent, LayerSlidingWindow:
	default:
		return 0
	}
	if l.m.Cacheless {
		return mul(l.batch, l.batch, width)
	}
	streams, cells := l.streams()
	switch {
	case k.LatentDim > 0 && k.Window > 0: // DeepSeek V4: each sequence has its own stream
		streams, cells = 1, l.windowed(k)
	case k.Kind == LayerSlidingWindow:
		cells = min(cells, l.windowCells(k.Window))
	}
	return mul(streams, cells, l.batch, width)
}

// crossing returns what the layers of a device read from another one, beside the residual stream: in sum, and the
// largest at once. Layers that share the cache of a layer on another device copy all of it. What a recurrent layer
// is projected to crosses once to each device but the first (seen by running: exact for Mamba 2 and RWKV 7, more than
// what crosses for Nemotron-H).
func (l *llama) crossing(shares []share, i int) (sum, largest int64) {
	own := shares[i]
	if l.tensorMode() {
		return 0, 0
	}
	var projection int64
	for unit := own.from; unit < min(own.to, int64(l.m.LayerCount)); unit++ {
		var n int64
		k := &l.m.Layers[l.kindIndex(unit)]
		if source := int64(k.SharesCacheOf) - 1; source >= 0 && source < own.from {
			n = l.costOf(&l.m.Layers[l.kindIndex(source)]).kv
		}
		if i > 0 {
			projection = max(projection, mul(l.row(), k.ProjectionWidth))
		}
		if k.IndexerDim > 0 && k.LatentDim > 0 {
			projection = max(projection, mul(l.row(), 4, l.m.HiddenSize)) // fitted to GLM-5.2 on four GPUs
		}
		if k.IndexerHeads > 0 && k.LatentDim == 0 && len(shares) > 1 {
			// The blocks that MiniMax M3 selects are marked on the host, in a mask for each layer.
			n = add(n, mul(2, l.maskOf(k)))
		}
		sum, largest = add(sum, n), max(largest, n)
	}
	return add(sum, projection), max(largest, projection)
}

// staging returns what the first device holds of matrices on the host while it multiplies large batches by them; first
// is the first unit on a GPU. ggml copies one matrix at a time (ggml-backend.cpp, the splits at weights of another
// backend). In hybrids, and where gate and up projections of the experts are one matrix, the hole that one matrix
// leaves is broken up before the next comes, so there are two.
func (l *llama) staging(first int64) int64 {
	var n, cache int64
	if first > 0 {
		n = l.m.LargestMatrix
		if l.m.Ungated {
			n = mul(2, n) // up and down: measured on GPT-NeoX
		}
		cache = l.stagedCache()
		if n == 0 { // a model read before matrices were told apart
			for _, w := range l.m.LayerWeights {
				n = max(n, w)
			}
		}
	}
	if (first > 0 || l.s.ExpertsOnCPU) && l.m.Experts != nil {
		var layer int64
		for _, w := range l.m.ExpertWeights {
			layer = max(layer, w)
		}
		experts := l.m.Experts.LargestMatrix
		switch {
		case experts == 0, l.m.Experts.FusedGate:
			experts = layer
		case l.stagesTwo():
			experts = min(mul(2, experts), layer)
		}
		n = max(n, experts)
	}
	return add(n, cache)
}

// stagedCache returns what of the caches on the host comes to the device: keys and values of one layer without flash
// attention, none with it, but in hybrids, where a log of an older build needs two layers' (lc-qwen3x-27b in the
// ground truth), an upper bound.
func (l *llama) stagedCache() int64 {
	var n int64
	hybrid := false
	for i := range l.m.Layers {
		k := &l.m.Layers[i]
		hybrid = hybrid || k.RecurrentWidth > 0
		n = max(n, l.costOf(k).kv)
	}
	switch {
	case !l.flash:
		return n
	case hybrid:
		return mul(2, n)
	}
	return 0
}

// stagesTwo says whether two matrices of experts are staged at once: measured in qwen3next, qwen35moe, jamba,
// kimi-linear (hybrids), llama4 and step35, and not in twenty others. Architectures that are not known are taken to.
func (l *llama) stagesTwo() bool {
	for i := range l.m.Layers {
		if l.m.Layers[i].RecurrentWidth > 0 {
			return true
		}
	}
	return l.m.UnknownArchitecture || l.m.Architecture == "llama4" || l.m.Architecture == "step35"
}

// companions adds the image tower (weights and activations), which goes to the first device.
func (l *llama) companions(first *Device) {
	if v := l.m.Vision; v != nil && !l.s.NoVision {
		first.Components.Weights = add(first.Components.Weights, v.Sharded, v.Replicated)
		first.Components.Compute = add(first.Components.Compute, l.visionCompute(v))
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
