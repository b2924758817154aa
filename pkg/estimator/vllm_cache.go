// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// requestCache is what one request of the whole context keeps on one rank, in bytes.
type requestCache struct{ attention, recurrent int64 }

// cacheGroup is layers that vLLM gives one page table: all of one kind and geometry.
type cacheGroup struct {
	kind   *LayerKind
	layers int64
	// perToken is the bytes of one token in one layer, state those of one sequence.
	perToken, state int64
	// indexers is the bytes of one token in the sparse indexers of all layers of latents, which share their group
	// whether they have one or not (vllm/v1/core/kv_cache_utils.py, UniformTypeKVCacheSpecs).
	indexers int64
}

// maxCacheGroups bounds the groups of a model; more distinct geometries share the last one's slot by being added
// to it, which no known model needs.
const maxCacheGroups = 8

// cache returns what one request keeps on one rank of a stage: the least that must fit for vLLM to start.
//
// A model with one kind of layer keeps layers × bytes per token, in whole blocks. With several kinds, vLLM shares
// one pool between equal groups: each kind's layers are padded to a multiple of the group size, which is the count
// of the rarest kind (vllm/v1/core/kv_cache_utils.py, _get_kv_cache_groups_uniform_page_size). Measured: gemma-3-27b
// is charged 70 layers for its 62, gemma-3-4b 35 for 34.
func (v *vllm) cache(tp, stage int64) requestCache {
	var groups [maxCacheGroups]cacheGroup
	n := v.cacheGroups(&groups, tp, stage)
	size := groupSize(groups[:n])
	pageToken, pageState := int64(0), int64(0)
	for i := range groups[:n] {
		pageToken = max(pageToken, groups[i].perToken)
		pageState = max(pageState, groups[i].state)
	}
	block := v.block
	if pageState > 0 && pageToken > 0 {
		// Attention blocks are made as large as a state, so that both fit the same pages: 1568 tokens for
		// Qwen3.6-27B (vllm/model_executor/models/config.py, HybridAttentionMambaModelConfig).
		block = roundUp(max(block, ceilDiv(pageState, pageToken)), v.block)
	}
	var r requestCache
	for i := range groups[:n] {
		g := &groups[i]
		layers := g.layers
		if n > 1 {
			layers = roundUp(layers, size)
		}
		r.attention = add(r.attention, mul(layers, v.groupTokens(g, block)), mul(g.indexers, roundUp(v.context, block)))
		if g.state > 0 {
			page := g.state
			if pageToken > 0 {
				page = mul(block, pageToken)
			}
			r.recurrent = add(r.recurrent, mul(layers, page, v.stateBlocks()))
		}
	}
	r.attention = add(r.attention, v.draftCache(tp, stage, block))
	return r
}

// stateBlocks is how many states one sequence keeps: its own, one more where prefix caching keeps the last aligned
// one (the default from v0.20 on), and one per speculative token to roll back to.
func (v *vllm) stateBlocks() int64 {
	n := int64(1)
	if on := v.s.PrefixCaching; on == SwitchOn || on == SwitchDefault && v.version.atLeast(0, 20) {
		n = 2
	}
	return n + v.s.SpeculativeTokens
}

// groupTokens returns the bytes that one layer of a group keeps for one request.
func (v *vllm) groupTokens(g *cacheGroup, block int64) int64 {
	k := g.kind
	switch {
	case g.perToken == 0 && k.IndexerDim == 0:
		return 0
	case k.Kind == LayerCross:
		return mul(g.perToken, roundUp(k.CrossTokens, block))
	case k.Kind == LayerSlidingWindow:
		return mul(g.perToken, v.windowTokens(k.Window, block))
	case k.Window > 0: // DeepSeek V4: a window in full, and the rest compressed
		bytes := mul(g.perToken, v.windowTokens(k.Window, block))
		if k.CompressRatio > 0 {
			entries := roundUp(ceilDiv(v.context, k.CompressRatio), block)
			// A third more: pages of latents, of indexer keys and of the coarse layers are padded to fit one pool.
			// Fitted to 5.41 GiB for a request of 1M tokens of DeepSeek-V4-Flash, and above it.
			bytes = add(bytes, ratio{4, 3}.of(mul(add(g.perToken, indexerBytes(k)), entries)))
		}
		return bytes
	}
	perToken := g.perToken
	if !oneGroup(k) {
		perToken = add(perToken, indexerBytes(k))
	}
	return mul(perToken, roundUp(v.context, block))
}

// windowTokens returns the tokens that a windowed layer keeps: the window and the step being computed, one block
// more because the window need not start at a block's edge (vllm/v1/kv_cache_interface.py, SlidingWindowSpec).
func (v *vllm) windowTokens(window, block int64) int64 {
	kept := add(sub(window, 1), v.batchedTokens)
	if kept >= v.context {
		return roundUp(v.context, block)
	}
	return min(add(roundUp(kept, block), block), roundUp(v.context, block))
}

// cacheGroups fills groups with the kinds of layers of a stage that keep something, and returns how many.
func (v *vllm) cacheGroups(groups *[maxCacheGroups]cacheGroup, tp, stage int64) int {
	layers := v.stageLayers(stage)
	n := 0
	for i := range v.m.Layers {
		k := &v.m.Layers[i]
		count := layers.count(i)
		if count == 0 {
			continue
		}
		perToken := v.perToken(k, tp)
		state := v.state(k, tp)
		if perToken > 0 || k.IndexerDim > 0 {
			g := cacheGroup{kind: k, layers: count, perToken: perToken}
			if oneGroup(k) {
				g.indexers = mul(count, indexerBytes(k))
			}
			n = addGroup(groups, n, g)
		}
		if state > 0 {
			n = addGroup(groups, n, cacheGroup{kind: k, layers: count, state: state})
		}
	}
	return n
}

// oneGroup says whether layers of a kind share a group with those of an indexer.
func oneGroup(k *LayerKind) bool { return k.LatentDim > 0 && k.Window == 0 }

// addGroup adds layers to the group of their geometry.
func addGroup(groups *[maxCacheGroups]cacheGroup, n int, g cacheGroup) int {
	for i := range groups[:n] {
		o := &groups[i]
		if o.perToken == g.perToken && o.state == g.state && o.kind.Kind == g.kind.Kind && o.kind.Window == g.kind.Window &&
			o.kind.CompressRatio == g.kind.CompressRatio && o.kind.CrossTokens == g.kind.CrossTokens &&
			(o.kind.IndexerDim == g.kind.IndexerDim || oneGroup(o.kind)) {
			o.layers += g.layers
			o.indexers = add(o.indexers, g.indexers)
			return n
		}
	}
	if n == maxCacheGroups {
		last := &groups[n-1]
		last.layers += g.layers
		last.perToken, last.state = max(last.perToken, g.perToken), max(last.state, g.state)
		return n
	}
	groups[n] = g
	return n + 1
}

// groupSize returns the layers of one group: those of the rarest kind, or of the commonest where they are nearly
// as many (less than a quarter more).
func groupSize(groups []cacheGroup) int64 {
	var least, most int64
	for i := range groups {
		if n := groups[i].layers; least == 0 || n < least {
			least = n
		}
		most = max(most, groups[i].layers)
	}
	if 4*most < 5*least {
		return most
	}
	return max(least, 1)
}

// perToken returns the bytes of one token in one layer on one rank. Key/value heads are divided by tp and kept by
// each rank once there are fewer than ranks; the latent of MLA is whole on every rank.
func (v *vllm) perToken(k *LayerKind, tp int64) int64 {
	if v.m.Cacheless {
		return 0 // an encoder attends to its input only
	}
	if k.LatentDim > 0 {
		return v.latentBytes(k)
	}
	heads := ceilDiv(k.KVHeads, tp)
	return ceilDiv(mul(heads, add(k.KeyDim, k.ValueDim), v.kvBytes1024), 1024)
}

// latentBytes returns the bytes of one latent vector. Sparse attention (an indexer) keeps the part without
// positions in FP8 with a float32 scale per 128 elements and the rest in BF16, by default: 656 bytes of 576
// elements (vllm/v1/attention/backends/mla/flashmla_sparse.py), 584 of 512 with byte scales (DeepSeek V4).
func (v *vllm) latentBytes(k *LayerKind) int64 {
	sparse := v.sparse() || k.Window > 0
	asked := v.s.KVCacheType
	if !sparse || asked != "" && asked != "auto" && v.kvBytes1024 > 1024 {
		return ceilDiv(mul(k.LatentDim, v.kvBytes1024), 1024)
	}
	if k.LatentValueDim > 0 {
		return add(k.LatentValueDim, mul(4, ceilDiv(k.LatentValueDim, 128)), mul(2, sub(k.LatentDim, k.LatentValueDim)))
	}
	const rope = 64
	plain := sub(k.LatentDim, rope)
	return add(plain, ceilDiv(plain, 64), 1, 2*rope)
}

// sparse says whether the model attends sparsely, with an indexer in some layers at least: the others take what it
// selected, from the same layout.
func (v *vllm) sparse() bool {
	for i := range v.m.Layers {
		if v.m.Layers[i].IndexerDim > 0 {
			return true
		}
	}
	return false
}

// indexerBytes returns the bytes of one indexer key: FP8 and a float32 scale per 128 elements.
func indexerBytes(k *LayerKind) int64 {
	if k.IndexerDim == 0 {
		return 0
	}
	return add(k.IndexerDim, mul(4, ceilDiv(k.IndexerDim, 128)))
}

// state returns the bytes of one sequence's recurrent state in one layer on one rank: the convolution's in the
// computing type, the state matrix in float32.
func (v *vllm) state(k *LayerKind, tp int64) int64 {
	return ceilDiv(add(mul(k.ConvState, v.elementBytes()), mul(k.SSMState, 4)), tp)
}

// draftCache is the cache of the model's own speculative layers, on the last stage.
func (v *vllm) draftCache(tp, stage, block int64) int64 {
	d := v.m.Draft
	if d == nil || v.s.SpeculativeTokens == 0 || stage != v.pp-1 || int(d.KVKind) >= len(v.m.Layers) {
		return 0
	}
	k := &v.m.Layers[d.KVKind]
	return mul(d.Layers, v.groupTokens(&cacheGroup{kind: k, perToken: v.perToken(k, tp)}, block))
}
