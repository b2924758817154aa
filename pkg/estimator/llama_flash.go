// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"fmt"
	"slices"
	"strings"
)

// Flash attention that is not forced on is placed layer by layer on trial; where the operation does not land on the
// layer's own device, it is turned off for the whole model (llama-context.cpp, resolve_fused_ops), and the scores of
// all heads are kept. A quantized value cache forces it on (llama_init_from_model): what the GPU cannot do then runs
// on the host.

// resolveFlash decides whether attention is fused, and says so when it is not though nobody turned it off.
func (l *llama) resolveFlash(e *Result) {
	if !l.flash {
		l.paddedValues = l.widestValues()
		return
	}
	forced := l.s.FlashAttention == SwitchOn || isBlockType(l.valueType())
	reason := ""
	first := l.units() - l.gpuLayers
	seen := make([]bool, len(l.m.Layers))
	for unit := first; unit < int64(l.m.LayerCount); unit++ {
		i := l.kindIndex(unit)
		if seen[i] {
			continue
		}
		seen[i] = true
		if reason = l.flashRefused(&l.m.Layers[i]); reason != "" {
			break
		}
	}
	if reason == "" {
		reason = l.flashMisplaced(first)
	}
	switch {
	case reason == "":
	case forced:
		l.hostFlash = true
	default:
		l.flash = false
		e.Notes = append(e.Notes, "flash attention turns itself off, since "+reason+": scores take context × heads × micro-batch × 4 B")
	}
}

func (l *llama) kindIndex(unit int64) int32 {
	if unit < int64(len(l.m.LayerOrder)) {
		return l.m.LayerOrder[unit]
	}
	return 0
}

// keyType and valueType are the cache types in lower case, f16 where nothing is said.
func (l *llama) keyType() string { return cacheTypeName(l.s.KVCacheType) }

func (l *llama) valueType() string {
	if l.s.KVCacheTypeV != "" {
		return cacheTypeName(l.s.KVCacheTypeV)
	}
	return l.keyType()
}

func cacheTypeName(s string) string {
	switch s = strings.ToLower(s); s {
	case "", "auto", "fp16", "float16", "half":
		return "f16"
	case "bfloat16":
		return "bf16"
	case "float32", "float":
		return "f32"
	}
	return s
}

// flashHeads are the head sizes that the CUDA kernels are made for, keys and values alike (ggml-cuda/fattn.cu,
// ggml_cuda_get_best_fattn_kernel).
var flashHeads = []int64{40, 64, 72, 80, 96, 112, 128, 256}

// flashRefused says why the CUDA backend, as it is built by default (GGML_CUDA_FA_ALL_QUANTS off), has no kernel for
// a kind of layer.
func (l *llama) flashRefused(k *LayerKind) string {
	key, value, grouped := k.KeyDim, k.ValueDim, k.Heads/max(k.KVHeads, 1)
	switch {
	case k.LatentDim > 0: // one key/value head, whose values are part of its keys
		key, value, grouped = k.LatentDim, k.LatentValueDim, k.Heads
	case k.KVHeads == 0:
		return ""
	}
	supported := false
	switch key {
	case 192:
		supported = value == 128 && grouped%8 == 0
	case 320:
		supported = value == 256 && grouped%32 == 0
	case 512:
		supported = value == 512 && grouped >= 2
	case 576:
		supported = value == 512 && grouped >= 2
	default:
		supported = key == value && slices.Contains(flashHeads, key)
	}
	if !supported {
		return fmt.Sprintf("there is no kernel for heads of %d (keys) and %d (values), %d of them to one key/value head", key, value, grouped)
	}
	if l.m.Cacheless {
		return "" // keys and values are those of the batch, in f16
	}
	kt, vt := l.keyType(), l.valueType()
	if k.LatentDim > 0 {
		vt = kt
	}
	if kt != vt && !(kt == "q8_0" && vt == "q4_0") {
		return fmt.Sprintf("there is no kernel for keys of %s and values of %s", kt, vt)
	}
	for _, t := range []string{kt, vt} {
		if !slices.Contains([]string{"f32", "f16", "bf16", "q4_0", "q8_0"}, t) {
			return "there is no kernel for a cache of " + t
		}
	}
	return ""
}

// flashMisplaced says why the attention of a layer lands on another device than the layer: first is the first unit on
// a GPU. Both were seen by running (llama-truth); the scheduler gives operations without weights to the device of
// what comes next (ggml-backend.cpp, ggml_backend_sched_split_graph, the passes that expand assignments).
func (l *llama) flashMisplaced(first int64) string {
	if first <= 0 || first >= int64(l.m.LayerCount) || len(l.m.LayerOrder) == 0 {
		return ""
	}
	recurrent := false
	for i := range l.m.Layers {
		recurrent = recurrent || l.m.Layers[i].RecurrentWidth > 0
	}
	last := &l.m.Layers[l.kindIndex(first-1)]
	if recurrent && (last.KVHeads > 0 || last.LatentDim > 0) {
		return "the last layer on the host is one of attention in a hybrid"
	}
	for unit := first; unit < int64(l.m.LayerCount); unit++ {
		if source := int64(l.m.Layers[l.kindIndex(unit)].SharesCacheOf); source > 0 && source-1 < first {
			return "a layer on a GPU reads the cache of one on the host"
		}
	}
	return ""
}

// widestValues returns the elements of the widest layer's values: what each layer's take when they are stored
// transposed (llama-kv-cache.cpp, n_embd_v_gqa_max).
func (l *llama) widestValues() int64 {
	var n int64
	for i := range l.m.Layers {
		if k := &l.m.Layers[i]; k.LatentDim == 0 {
			n = max(n, mul(k.KVHeads, k.ValueDim))
		}
	}
	return n
}
