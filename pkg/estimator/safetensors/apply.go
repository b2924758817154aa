// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// Apply puts the sizes of a model's tensors in the place of the ones that were computed from its configuration. The
// geometry of its caches stays.
func Apply(m *estimator.Model, headers []*Header) {
	a := &applier{m: m, layers: make([]estimator.PlacedWeights, m.LayerCount)}
	m.FileSize = 0
	for _, h := range headers {
		m.FileSize += h.Bytes
		for i := range h.Tensors {
			a.add(&h.Tensors[i])
		}
	}
	m.WeightsSource = estimator.WeightsFromTensors
	m.Embedding, m.Output, m.OtherWeights = a.embedding, a.output, a.other
	if m.TiedEmbeddings && m.Embedding > 0 {
		m.Output = 0 // a copy that engines drop
	}
	a.setLayers()
	if a.vision > 0 {
		if m.Vision == nil {
			m.Vision = &estimator.Vision{}
		}
		m.Vision.Sharded, m.Vision.Replicated = a.vision, 0
	}
	if m.Draft != nil {
		m.Draft.Weights = a.draft
		if a.draft == (estimator.PlacedWeights{}) {
			m.Draft = nil // announced by the configuration, absent from the files
		}
	}
}

// applier sums tensors by where they belong.
type applier struct {
	m                                *estimator.Model
	layers                           []estimator.PlacedWeights
	draft                            estimator.PlacedWeights
	embedding, output, other, vision int64
}

// towers are parts of names that belong to an image or audio tower or to a projector.
var towers = []string{
	"vision", "visual", "vit.", "image_newline", "audio", "multi_modal_projector", "mm_projector", "connector.",
	"patch_merger", "img_", "embed_vision", "embed_audio",
}

// add accounts for one tensor by its name.
func (a *applier) add(t *Tensor) {
	for _, part := range towers {
		if strings.Contains(t.Name, part) {
			a.vision += t.Bytes
			return
		}
	}
	if strings.HasPrefix(t.Name, "mtp.") || strings.Contains(t.Name, ".mtp.") || strings.HasPrefix(t.Name, "model.mtp") {
		place(&a.draft, t, a.m)
		return
	}
	if i, ok := layerOf(t.Name); ok {
		if i < len(a.layers) {
			place(&a.layers[i], t, a.m)
		} else {
			place(&a.draft, t, a.m)
		}
		return
	}
	switch module, _, _ := strings.Cut(lastParts(t.Name, 2), "."); module {
	case "embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embeddings", "embed", "embed_in", "embedding":
		a.embedding += t.Bytes
	case "lm_head", "output", "embed_out", "head", "output_layer":
		a.output += t.Bytes
	default:
		a.other += t.Bytes
	}
}

// layerOf returns the number in "…layers.7.…", "…h.7.…", "…blocks.7.…" or "…layer.7.…".
func layerOf(name string) (int, bool) {
	parts := strings.Split(name, ".")
	for i := 0; i+1 < len(parts); i++ {
		switch parts[i] {
		case "layers", "h", "blocks", "layer":
			if n, err := strconv.Atoi(parts[i+1]); err == nil && n >= 0 {
				return n, true
			}
		}
	}
	return 0, false
}

// lastParts returns the last n dotted parts of a name.
func lastParts(name string, n int) string {
	i := len(name)
	for range n {
		j := strings.LastIndexByte(name[:i], '.')
		if j < 0 {
			return name
		}
		i = j
	}
	return name[i+1:]
}

// place adds a layer's tensor to its placement under tensor parallelism (see estimator.PlacedWeights).
func place(w *estimator.PlacedWeights, t *Tensor, m *estimator.Model) {
	name := t.Name
	has := func(part string) bool { return strings.Contains(name, part) }
	switch {
	case has("experts.") && !has("shared_expert"):
		w.Experts += t.Bytes
	case has(".k_proj."), has(".v_proj."), has(".key."), has(".value."):
		w.KV += t.Bytes
	case has("qkv_proj"), has("query_key_value"), has("Wqkv"), has("c_attn"), has("W_pack"), has(".wqkv."):
		// A fused projection: the part of keys and values by the heads.
		kv := t.Bytes
		if heads := m.Heads + 2*m.KVHeads; heads > 0 {
			kv = t.Bytes / heads * 2 * m.KVHeads
		}
		w.KV += kv
		w.Sharded += t.Bytes - kv
	case len(t.Shape) < 2 && !has("_proj"), has("norm"), has(".gate.weight"), has("router"), has("q_a_proj"), has("kv_a_proj"),
		has("indexer"), has("latent_proj"), has(".wq_a."), has(".wkv."), has("hc_"):
		w.Replicated += t.Bytes
	default:
		w.Sharded += t.Bytes
	}
}

// setLayers regroups the layers by geometry and exact weights.
func (a *applier) setLayers() {
	m := a.m
	index := map[estimator.LayerKind]int32{}
	var kinds []estimator.LayerKind
	order := make([]int32, 0, m.LayerCount)
	for i := range int(m.LayerCount) {
		kind := *m.KindOf(i)
		kind.Count, kind.Weights = 0, a.layers[i]
		k, ok := index[kind]
		if !ok {
			k = int32(len(kinds))
			index[kind] = k
			kinds = append(kinds, kind)
		}
		kinds[k].Count++
		order = append(order, k)
	}
	draftLayer := -1
	if m.Draft != nil {
		for i := range int(m.LayerCount) {
			if len(m.LayerOrder) == 0 || m.LayerOrder[i] == m.Draft.KVKind {
				draftLayer = i
			}
		}
	}
	m.Layers, m.LayerOrder = estimator.CompactKinds(kinds, order)
	if draftLayer >= 0 {
		m.Draft.KVKind = m.LayerOrder[draftLayer]
	}
	if len(m.Layers) == 1 {
		m.LayerOrder = nil
	}
}
