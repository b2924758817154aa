// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/internal/saturate"
)

// layers groups the blocks into kinds and fills in their weights. The last blocks of a file with NextN (multi-token
// prediction) layers are the draft.
func (b *builder) layers() {
	m := b.model
	count := len(b.blocks) - b.draftBlocks()
	index := map[estimator.LayerKind]int32{}
	hasExperts := false
	for i := range count {
		l := &b.blocks[i]
		kind := b.kind(i)
		k, ok := index[kind]
		if !ok {
			k = int32(len(m.Layers))
			index[kind] = k
			m.Layers = append(m.Layers, kind)
		}
		m.Layers[k].Count++
		m.LayerOrder = append(m.LayerOrder, k)
		m.LayerWeights = append(m.LayerWeights, l.weights)
		m.ExpertWeights = append(m.ExpertWeights, l.experts)
		m.MirroredWeights = saturate.Add(m.MirroredWeights, l.mirrored)
		m.LargestMatrix = max(m.LargestMatrix, l.largest)
		if m.Experts != nil {
			m.Experts.LargestMatrix = max(m.Experts.LargestMatrix, l.largestExpert)
			m.Experts.FusedGate = m.Experts.FusedGate || l.fusedGate
		}
		hasExperts = hasExperts || l.experts > 0
		if kind.Kind != estimator.LayerRecurrent {
			m.Heads, m.KVHeads = max(m.Heads, kind.Heads), max(m.KVHeads, kind.KVHeads)
		}
	}
	m.LayerCount = int32(count)
	m.Cacheless, m.NoOutput = cacheless[b.arch], headless[b.arch]
	if len(m.Layers) == 1 {
		m.LayerOrder = nil
	}
	if !hasExperts {
		m.ExpertWeights = nil
	}
	if count < len(b.blocks) {
		b.draft(count)
	}
}

// draftBlocks returns how many of the last blocks are prediction layers. Their own tensors tell; a file without them
// (they can be left out) has as many as its metadata say, unless a hybrid's layers would then not make whole periods.
func (b *builder) draftBlocks() int {
	said := int(min(b.int("nextn_predict_layers"), int64(len(b.blocks))-1))
	if said <= 0 {
		return 0
	}
	n := 0
	for n < said && b.blocks[len(b.blocks)-1-n].nextn {
		n++
	}
	if n > 0 {
		return n
	}
	if interval := int(b.int("full_attention_interval")); interval > 0 && len(b.blocks)%interval == 0 {
		return 0
	}
	return said
}

// draft describes the blocks from first on. Their cache has the geometry of the last attention layer.
func (b *builder) draft(first int) {
	d := &estimator.Draft{Layers: int64(len(b.blocks) - first), Cached: !nextnFiltered[b.arch]}
	for _, l := range b.blocks[first:] {
		d.Weights.Sharded += l.weights
		d.Weights.Experts += l.experts
	}
	m := b.model
	for i := range int(m.LayerCount) {
		if k := m.KindOf(i); k.KVHeads > 0 || k.LatentDim > 0 {
			if len(m.LayerOrder) > 0 {
				d.KVKind = m.LayerOrder[i]
			}
		}
	}
	m.Draft = d
}

// kind returns what layer i caches. The tensor table decides where it can; the metadata where the layer has no
// tensors in the table.
func (b *builder) kind(i int) estimator.LayerKind {
	l := &b.blocks[i]
	k := estimator.LayerKind{Kind: estimator.LayerStateless}
	recurrent, attention := l.recurrent, l.attention
	if l.weights == 0 && l.experts == 0 {
		recurrent, attention = b.kindByMetadata(i)
	}
	if interval := b.int("full_attention_interval"); interval > 0 {
		// Delta-net layers have a fused attn_qkv, too.
		attention = (int64(i)+1)%interval == 0
		recurrent = !attention
	}
	if heads := b.key("attention.head_count_kv"); heads.kind == kindArray {
		// Kimi's linear layers have attn_q, attn_k and attn_v tensors, and no cache.
		if n, ok := heads.at(i); ok && n == 0 {
			attention = false
		}
	}
	if recurrent {
		b.recurrence(&k)
	}
	if attention {
		b.attention(&k, i, l)
	}
	return k
}

// kindByMetadata tells recurrent layers from attention by the key/value heads: zero of them means recurrent.
func (b *builder) kindByMetadata(i int) (recurrent, attention bool) {
	hasState := b.int("ssm.inner_size") > 0 || b.int("shortconv.l_cache") > 0 || b.int("wkv.head_size") > 0 || b.int("kda.head_dim") > 0
	heads, said := b.key("attention.head_count_kv").at(i)
	switch {
	case b.int("wkv.head_size") > 0, b.int("attention.head_count") == 0 && hasState:
		return true, false
	case said && heads == 0:
		return hasState, false
	case hasState && b.key("attention.head_count_kv").kind != kindArray && b.int("full_attention_interval") == 0:
		return true, true // side by side (Falcon-H1)
	}
	return false, true
}

// attention fills in keys and values of layer i.
func (b *builder) attention(k *estimator.LayerKind, i int, l *block) {
	heads, ok := b.key("attention.head_count").at(i)
	if !ok {
		heads = b.int("attention.head_count")
	}
	kvHeads, ok := b.key("attention.head_count_kv").at(i)
	if !ok || kvHeads == 0 {
		kvHeads = max(b.int("attention.head_count_kv"), 0)
		if kvHeads == 0 {
			kvHeads = heads
		}
	}
	k.Kind = estimator.LayerAttention
	k.Heads, k.KVHeads = heads, kvHeads
	windowed := b.windowed(i)
	if windowed {
		k.Kind = estimator.LayerSlidingWindow
		k.Window, _ = b.key("attention.sliding_window").at(i)
		if k.Window == 0 {
			k.Window = windows[b.arch].size
		}
	}
	k.KeyDim, k.ValueDim = b.headDims(windowed)
	if l.keyWidth > 0 && !l.latent && kvHeads > 0 {
		// The widths of the tensors are what is cached; scalar head dimensions are wrong for mixed layers.
		k.KeyDim = max(l.keyWidth/kvHeads, 1)
		k.ValueDim = k.KeyDim
		if l.valueWidth > 0 {
			k.ValueDim = max(l.valueWidth/kvHeads, 1)
		}
	}
	if rank := b.int("attention.kv_lora_rank"); rank > 0 && b.latentLayout(l) {
		rope := b.int("rope.dimension_count")
		k.Kind = estimator.LayerLatent
		k.LatentDim, k.LatentValueDim = rank+rope, rank
		k.KVHeads = heads
		if d := b.int("attention.key_length_mla"); d > 0 {
			k.KeyDim, k.ValueDim = d, b.int("attention.value_length_mla")
		}
	}
	if b.arch == "deepseek4" {
		b.compressed(k, i, l)
		return
	}
	if l.indexer || l.weights == 0 && b.int("attention.indexer.key_length") > 0 {
		k.IndexerDim = b.int("attention.indexer.key_length")
		if k.IndexerDim == 0 {
			k.IndexerDim = 128
		}
		if k.LatentDim == 0 {
			// MiniMax M3 caches rows of keys and of values (llama-kv-cache-msa.cpp), and scores head by head.
			k.IndexerDim, k.IndexerHeads = product(2, k.IndexerDim), max(b.int("attention.indexer.head_count"), 1)
		}
	}
	own := int64(len(b.blocks)) - b.int("attention.shared_kv_layers") // layers with a cache of their own
	if b.arch == "gemma3n" {
		own = min(own, 20) // src/models/gemma3n.cpp, n_layer_kv_from_start
	}
	if int64(i) >= own {
		shareCache(k, own, windowed)
	}
}

// compressed describes a layer of DeepSeek V4 (llama-kv-cache-dsv4.cpp): latents of a window, and one for each group
// of tokens, with the keys of an indexer in the layers that have one. The groups that are not complete yet, two of
// them where groups overlap, are kept as states: keys and scores, in float32.
func (b *builder) compressed(k *estimator.LayerKind, i int, l *block) {
	dim, _ := b.headDims(false)
	*k = estimator.LayerKind{
		Kind: estimator.LayerLatent, Heads: k.Heads, KVHeads: k.Heads, KeyDim: dim, ValueDim: dim, LatentDim: dim, LatentValueDim: dim,
		Window: b.int("attention.sliding_window"),
	}
	k.CompressRatio, _ = b.key("attention.compress_ratios").at(i)
	if k.CompressRatio == 0 {
		return
	}
	overlap := max(l.compressorWidth/max(k.LatentDim, 1), 1)
	width := k.LatentDim
	if l.indexer {
		k.IndexerDim, k.IndexerHeads = b.int("attention.indexer.key_length"), b.int("attention.indexer.head_count")
		width += k.IndexerDim
	}
	k.ConvState = product(2*overlap*overlap, product(width, k.CompressRatio))
}

// shareCache makes a layer one that reads the cache of the last layer of its sort that has one: the last but one for
// a windowed layer (llama-model.cpp, create_memory: n_layer_kv_from_start − 2 or − 1).
func shareCache(k *estimator.LayerKind, own int64, windowed bool) {
	source := own - 1
	if windowed {
		source--
	}
	*k = estimator.LayerKind{Kind: estimator.LayerStateless, SharesCacheOf: int32(max(source, 0) + 1)}
}

// latentLayout says whether the cache holds latents: files converted before the MLA layout (no attn_k_b) are run
// as plain attention with all heads.
func (b *builder) latentLayout(l *block) bool {
	if l.latent {
		return l.absorbed || b.int("attention.key_length_mla") > 0
	}
	return b.int("attention.key_length_mla") > 0 || b.int("attention.head_count_kv") == 1
}

// headDims returns the scalar dimensions of key and value heads.
func (b *builder) headDims(windowed bool) (key, value int64) {
	if heads := b.int("attention.head_count"); heads > 0 {
		key = b.model.HiddenSize / heads
		value = key
	}
	if d := b.int("attention.key_length"); d > 0 {
		key = d
	}
	if d := b.int("attention.value_length"); d > 0 {
		value = d
	}
	if windowed {
		if d := b.int("attention.key_length_swa"); d > 0 {
			key = d
		}
		if d := b.int("attention.value_length_swa"); d > 0 {
			value = d
		}
	}
	return key, value
}

// windowed says whether layer i attends to a window only: by the file's own list or period, else by the layout of
// its architecture.
func (b *builder) windowed(i int) bool {
	layout, ok := windows[b.arch]
	size := b.int("attention.sliding_window")
	if size == 0 && layout.size == 0 || b.arch == "phi3" { // llama.cpp runs phi3 without windows
		return false
	}
	pattern := b.key("attention.sliding_window_pattern")
	switch {
	case pattern.kind == kindArray:
		on, _ := pattern.at(i)
		return on != 0
	case pattern.kind == kindNumber && pattern.whole > 0 && pattern.whole < maxLayers:
		layout = window{period: pattern.whole, fullFirst: layout.fullFirst}
	case b.arch == "exaone4" && len(b.blocks) >= 64: // only the large EXAONE 4 has windows
		layout = window{period: 4}
	case !ok:
		return false
	}
	switch {
	case layout.period == 0:
		return true
	case layout.fullFirst:
		return int64(i)%layout.period != 0
	}
	return int64(i)%layout.period != layout.period-1
}

// recurrence fills in the states of a recurrent layer (llama-hparams.cpp, n_embd_r and n_embd_s): the inputs of the
// convolution and the state matrix, in elements per sequence.
func (b *builder) recurrence(k *estimator.LayerKind) {
	k.Kind = estimator.LayerRecurrent
	hidden := b.model.HiddenSize
	if head := b.int("wkv.head_size"); head > 0 { // RWKV
		shifts := b.int("token_shift_count")
		if shifts == 0 {
			shifts = 2
		}
		k.ConvState, k.SSMState, k.RecurrentWidth = product(shifts, hidden), product(hidden, head), product(5, hidden)/2
		k.ProjectionWidth = hidden
		return
	}
	if taps := b.int("shortconv.l_cache"); taps > 0 { // LFM2
		k.ConvState, k.RecurrentWidth = product(max(taps-1, 0), hidden), hidden
		return
	}
	kernel := max(b.int("ssm.conv_kernel")-1, 0)
	if dim := b.int("kda.head_dim"); dim > 0 { // Kimi linear
		width := product(b.int("attention.head_count"), dim)
		k.ConvState, k.SSMState, k.RecurrentWidth = product(3*kernel, width), product(width, dim), width
		return
	}
	inner, state := b.int("ssm.inner_size"), b.int("ssm.state_size")
	k.ConvState = product(kernel, inner+product(2*b.int("ssm.group_count"), state))
	k.SSMState = product(inner, state)
	k.RecurrentWidth = inner
	if groups := b.int("ssm.group_count"); groups > 0 && b.int("full_attention_interval") == 0 {
		// Mamba 2 projects to z, x, B, C and dt at once (src/models/mamba-base.cpp).
		k.ProjectionWidth = 2*inner + product(2*groups, state) + b.int("ssm.time_step_rank")
	}
}

// product multiplies two numbers, at most 2^50.
func product(a, b int64) int64 { return min(saturate.Mul(a, b), 1<<50) }
