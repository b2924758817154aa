// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// compute returns the bytes of the compute buffer of one of the devices, staging not included.
//
// ggml plans one buffer for the largest moment of the graph: tensors that live at the same time add up, others share
// memory. Three moments can be the largest: the feed-forward layer, attention, and the output. What is an input of
// the graph (the attention mask) lives throughout. The moments below were checked against the buffers that llama.cpp
// plans (llama-truth), the sweep of gguf-parser-go over 125 architectures, and the logs in docs/estimation.md.
func (l *llama) compute(shares []share, i int) int64 {
	own := shares[i]
	if l.tensorMode() {
		own = shares[0]
	}
	row := l.row()
	kinds := l.kindsOf(own)
	largest := add(l.feedForwardMoment(row), l.beside(kinds))
	if own.to == l.units() {
		largest = max(largest, l.outputMoment(row))
	}
	for k := range l.m.Layers {
		if kinds[k] {
			largest = max(largest, l.mixerMoment(&l.m.Layers[k], row))
		}
	}
	n := add(l.inputs(shares, i, kinds), largest)
	if l.drafting() && own.to > int64(l.m.LayerCount) {
		n = add(n, l.draftCompute(len(shares)))
	}
	return n
}

// streamWidth returns the elements of the residual stream of a token.
func (l *llama) streamWidth() int64 { return max(l.m.HiddenSize, l.m.StreamWidth) }

// row returns the bytes of one float32 of each token of the micro-batch.
func (l *llama) row() int64 { return mul(l.batch, 4) }

// kindsOf says which kinds of layers are among some units.
func (l *llama) kindsOf(s share) []bool {
	kinds := make([]bool, len(l.m.Layers))
	if len(kinds) == 0 {
		return kinds
	}
	for unit := s.from; unit < min(s.to, int64(l.m.LayerCount)); unit++ {
		i := l.kindIndex(unit)
		kinds[i] = true
		if source := int64(l.m.Layers[i].SharesCacheOf); source > 0 {
			kinds[l.kindIndex(source-1)] = true // it attends like its source
		}
	}
	return kinds
}

// draftCompute returns the buffer of the context in which the model's own prediction layers run: one layer of the
// model, with the embedding of a token, the state of the one before and both joined as inputs (src/models/qwen35.cpp,
// graph_mtp). Its logits are of few tokens.
func (l *llama) draftCompute(devices int) int64 {
	row := l.row()
	kind := l.m.Layers[l.m.Draft.KVKind]
	kind.IndexerDim, kind.IndexerHeads, kind.RecurrentWidth = 0, 0, 0
	inputs := add(l.maskOf(&kind), mul(row, mul(3, l.m.HiddenSize)))
	if l.pipelined(devices) {
		inputs = mul(inputs, pipelineCopies)
	}
	return add(inputs, max(l.feedForwardMoment(row), l.mixerMoment(&kind, row), l.outputMoment(row)))
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
	return mul(row, add(width, mul(4, l.streamWidth())))
}

// beside returns what attention keeps while the feed-forward part of the same layer runs: in layers that run both on
// the same input, the fused attention's result with the unpacked cache behind it (the projection of it is planned
// after the feed-forward part; src/models/command-r.cpp).
func (l *llama) beside(kinds []bool) int64 {
	var n int64
	if !l.m.ParallelAttention || !l.flash {
		return 0
	}
	for i := range l.m.Layers {
		if kinds[i] {
			n = max(n, l.unpacked(&l.m.Layers[i]))
		}
	}
	return n
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
	return add(mul(row, add(mul(3, l.streamWidth()), widths)), scratch)
}

// attentionMoment: queries before and after rotation and with their gate, keys, values, and the result; models with
// one fused projection keep all three parts of it alive. A cache that is not float16 is unpacked to it, all cells of one
// layer; without flash attention the scores of all heads are kept in float32. A cache on the host is copied, one
// layer at a time.
func (l *llama) attentionMoment(k *LayerKind) (widths, scratch int64) {
	query, kv := mul(k.Heads, k.KeyDim), mul(k.KVHeads, add(k.KeyDim, k.ValueDim))
	widths = add(mul(3, query), kv, mul(k.Heads, k.ValueDim))
	if isBlockType(l.keyType()) || isBlockType(l.valueType()) {
		// Queries, keys and values are turned by a Hadamard matrix before they are quantized (llama-kv-cache.cpp,
		// build_input_k_rot).
		widths = add(widths, query, kv)
	}
	cells := l.cells(k)
	keys, values := mul(cells, k.KVHeads, k.KeyDim), mul(cells, k.KVHeads, k.ValueDim)
	if l.s.NoKVOffload {
		scratch = add(mul(keys, l.keyBytes), mul(values, l.valBytes)) / 1024
	}
	scratch = add(scratch, l.indexerMoment(k))
	if l.flash {
		return widths, add(scratch, l.unpacked(k))
	}
	if l.s.FlashAttention != SwitchOff {
		// The cache was made for flash attention, so values are transposed here (llama-graph.cpp, build_attn_mha).
		scratch = add(scratch, mul(values, 2))
	}
	_, perStream := l.streams()
	return widths, add(scratch, mul(min(cells, perStream), k.Heads, l.batch, 4))
}

// unpacked returns what a cache that is not float16 takes as such, all cells of one layer (ggml-cuda/fattn.cu,
// ggml_cuda_flash_attn_ext_get_alloc_size).
func (l *llama) unpacked(k *LayerKind) int64 {
	if l.onHost(k) || l.m.Cacheless || k.LatentDim > 0 {
		return 0
	}
	var n int64
	if l.keyType() != "f16" {
		n = mul(l.cells(k), k.KVHeads, k.KeyDim, 2)
	}
	if l.valueType() != "f16" {
		n = add(n, mul(l.cells(k), k.KVHeads, k.ValueDim, 2))
	}
	return n
}

// onHost says whether the attention of a layer on a GPU runs on the host.
func (l *llama) onHost(k *LayerKind) bool { return l.hostFlash && l.flashRefused(k) != "" }

// indexerMoment: the indexer of MiniMax M3 keeps the scores of each of its heads twice and a mask of its own
// (src/models/minimax-m3.cpp).
func (l *llama) indexerMoment(k *LayerKind) int64 {
	if k.IndexerHeads == 0 || k.LatentDim > 0 {
		return 0
	}
	_, perStream := l.streams()
	return mul(perStream, l.batch, add(mul(8, k.IndexerHeads), 2))
}

// latentMoment: MLA's queries before and after they are moved into the latent space, and the result there. Values
// are a view of the keys, so a quantized cache is unpacked once.
func (l *llama) latentMoment(k *LayerKind) (widths, scratch int64) {
	widths = add(mul(k.Heads, k.KeyDim), mul(2, k.Heads, k.LatentDim), mul(k.Heads, max(k.LatentValueDim, k.ValueDim)))
	scratch = 64 * mib // concatenations and permutations, measured on Kimi-K2.7 and GLM-5.2
	cells := l.cells(k)
	if k.Window > 0 {
		cells = l.windowed(k)
	}
	if l.s.NoKVOffload {
		scratch = add(scratch, mul(cells, k.LatentDim, l.keyBytes)/1024)
	}
	var unpacked int64
	switch {
	case !l.flash:
		scratch = add(scratch, mul(cells, k.Heads, l.batch, 4))
	case l.keyType() != "f16":
		unpacked = mul(cells, k.LatentDim, 2)
	}
	if k.IndexerDim == 0 {
		return widths, add(scratch, unpacked)
	}
	return l.indexed(k, cells, unpacked, widths, scratch)
}

// indexed adds to the moment of a latent layer what its sparse indexer takes (src/models/deepseek32.cpp): while it
// scores, a mask in float16 and the scores in float32 over all cells; while the layer attends, the mask of the
// selected cells beside the unpacked cache. The widths are a fit to the buffers of GLM-5.2 and DeepSeek-V3.2 (1056768 B
// a token and the difference of 64 heads), and above both.
func (l *llama) indexed(k *LayerKind, cells, unpacked, widths, scratch int64) (int64, int64) {
	scores := mul(cells, l.batch)
	scratch = add(scratch, max(mul(6, scores), add(mul(4, scores), unpacked)))
	if l.build < buildFusedIndexer {
		// Scores head by head, before and after their activation: 65.5 GiB for DeepSeek V4 at 1M tokens.
		scratch = add(scratch, mul(2, k.IndexerHeads, cells, l.batch, 4))
	}
	return max(widths, add(mul(k.Heads, add(k.LatentDim, k.LatentValueDim)), mul(32, l.m.HiddenSize))), scratch
}

// outputMoment: one row of logits for each output. Those are all tokens of the micro-batch where the server answers
// with embeddings, and before mid-2026 of any server with slots; else a row per sequence.
func (l *llama) outputMoment(row int64) int64 {
	if l.m.NoOutput || l.m.Architecture == "gemma-embedding" { // loaded and not used (src/models/gemma-embedding.cpp)
		return 0
	}
	if l.s.Embeddings || l.sequences > 1 && l.build < buildFewOutputs {
		return mul(row, add(l.m.VocabularySize, l.m.HiddenSize))
	}
	return mul(l.sequences, l.m.VocabularySize, 4)
}
