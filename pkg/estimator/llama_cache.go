// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "fmt"

// layerCache returns the bytes of one layer's KV cache and recurrent state over all sequences.
//
// Keys and values: cells × heads × (key dim × bytes + value dim × bytes). MLA stores its latent once (no values,
// since build 7800). A sparse-attention indexer adds one key per cell. Recurrent layers keep float32 states per
// sequence, and one more set per token that speculative decoding may roll back (llama-memory-recurrent.cpp).
func (l *llama) layerCache(k *LayerKind) (kv, state int64) {
	if k.LatentDim > 0 && k.Window > 0 {
		kv = l.compressedCache(k)
	} else if !l.m.Cacheless {
		kv = mul(l.cells(k), l.perCell(k)) / 1024
	}
	state = mul(add(k.ConvState, k.SSMState), 4, l.sequences, 1+l.s.SpeculativeTokens)
	return kv, state
}

// perCell returns 1024 times the bytes of one cell of one layer.
func (l *llama) perCell(k *LayerKind) int64 {
	indexer := mul(k.IndexerDim, l.keyBytes)
	if k.LatentDim > 0 {
		latent := mul(k.LatentDim, l.keyBytes)
		if l.build < buildVLess {
			latent = add(latent, mul(k.LatentValueDim, l.valBytes))
		}
		return add(latent, indexer)
	}
	values := mul(k.KVHeads, k.ValueDim)
	if values > 0 {
		values = max(values, l.paddedValues)
	}
	return add(mul(k.KVHeads, k.KeyDim, l.keyBytes), mul(values, l.valBytes), indexer)
}

// compressedCache returns the bytes of a layer of DeepSeek V4 (llama-kv-cache-dsv4.cpp): a window of latents, and one
// latent for each CompressRatio tokens, with a key of the indexer where there is one. Each sequence has its own,
// even where the cache is unified.
func (l *llama) compressedCache(k *LayerKind) int64 {
	n := mul(l.windowed(k), k.LatentDim)
	if k.CompressRatio > 0 {
		n = add(n, mul(l.compressedCells(k), k.IndexerDim))
	}
	return mul(n, l.sequences, l.keyBytes) / 1024
}

// windowed returns the cells of one sequence of such a layer, compressed ones included.
func (l *llama) windowed(k *LayerKind) int64 {
	n := min(l.perSequence(), roundUp(add(k.Window, l.batch), cellPadding))
	if k.CompressRatio > 0 {
		n = add(n, l.compressedCells(k))
	}
	return n
}

func (l *llama) compressedCells(k *LayerKind) int64 {
	return roundUp(ceilDiv(l.perSequence(), max(k.CompressRatio, 1)), cellPadding)
}

// perSequence returns the cells that one sequence may use.
func (l *llama) perSequence() int64 {
	_, cells := l.streams()
	return cells
}

// costOf returns what a layer of one kind keeps. A windowed layer costs nothing for one more token of context.
func (l *llama) costOf(k *LayerKind) kindCost {
	c := kindCost{perToken: ceilDiv(l.perCell(k), 1024)}
	c.kv, c.state = l.layerCache(k)
	switch {
	case l.m.Cacheless, k.Kind == LayerSlidingWindow && !l.s.SWAFull:
		c.perToken = 0
	case k.CompressRatio > 0:
		c.perToken = ceilDiv(c.perToken, k.CompressRatio)
	}
	return c
}

// streams returns how many caches there are, and the cells that one of them offers its sequences.
func (l *llama) streams() (n, cells int64) {
	if l.unified {
		return 1, roundUp(l.context, cellPadding)
	}
	return l.sequences, roundUp(ceilDiv(l.context, l.sequences), cellPadding)
}

// cells returns the cells of one layer over all streams. A windowed layer keeps, per stream,
// pad256(min(context, window × (sequences of the stream) + micro-batch)) (llama-kv-cache-iswa.cpp); --swa-full keeps
// the context.
func (l *llama) cells(k *LayerKind) int64 {
	if l.m.Cacheless {
		return l.batch
	}
	streams, cells := l.streams()
	if k.Kind == LayerSlidingWindow && !l.s.SWAFull {
		cells = min(cells, l.windowCells(k.Window))
	}
	return mul(streams, cells)
}

// windowCells returns the cells of one stream of a windowed layer.
func (l *llama) windowCells(window int64) int64 {
	if l.s.SWAFull {
		_, cells := l.streams()
		return cells
	}
	perStream := int64(1)
	if l.unified {
		perStream = l.sequences
	}
	return roundUp(add(mul(window, perStream), l.batch), cellPadding)
}

// checkCacheTypes refuses what llama.cpp refuses to start with: keys and values of different types where values are part
// of the keys (MLA), and block types whose blocks of 32 do not divide a head (llama-context.cpp, llama_init_from_model).
func (l *llama) checkCacheTypes() error {
	for i := range l.m.Layers {
		k := &l.m.Layers[i]
		kt, vt := l.keyType(), l.valueType()
		if k.LatentDim > 0 {
			if kt != vt {
				return fmt.Errorf("llama.cpp caches keys and values of %s together, so they cannot be %s and %s: give one type for both", l.m.Architecture, kt, vt)
			}
			continue
		}
		if k.KVHeads == 0 || l.m.Cacheless {
			continue
		}
		for _, c := range []struct {
			kind, name string
			dim        int64
		}{{"keys", kt, k.KeyDim}, {"values", vt, k.ValueDim}} {
			if isBlockType(c.name) && c.dim%32 != 0 {
				return fmt.Errorf("llama.cpp refuses %s of %s in heads of %d elements, which its blocks of 32 do not divide: use f16", c.kind, c.name, c.dim)
			}
		}
	}
	return nil
}
