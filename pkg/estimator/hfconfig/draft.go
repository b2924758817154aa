// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"strconv"

	"github.com/berth-dev/berth/pkg/estimator"
)

// draft returns the speculative layers that a checkpoint brings (multi-token prediction): each is one more layer
// like the last, behind a projection of two hidden states into one. Embedding and output are the model's own.
func (b *builder) draft(m *estimator.Model) *estimator.Draft {
	n := b.text.int("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "mtp_num_layers", "_num_mtp_layers")
	if n == 0 || n > 64 || b.layers == 0 {
		return nil
	}
	last := int32(0)
	if len(m.LayerOrder) > 0 {
		last = m.LayerOrder[len(m.LayerOrder)-1]
	}
	for i := b.layers - 1; i >= 0; i-- { // the last layer that attends, for its cache
		k := m.KindOf(i)
		if k.Kind != estimator.LayerRecurrent && k.Kind != estimator.LayerStateless {
			if i < len(m.LayerOrder) {
				last = m.LayerOrder[i]
			}
			break
		}
	}
	parameters := b.parameters
	l := &layer{b: b, prefix: "mtp.layers." + strconv.Itoa(0) + "."}
	if !b.quant.ignored("mtp.layers.0") {
		l.prefix = "layers." + strconv.Itoa(b.layers) + "."
	}
	l.linear("eh_proj", 2*b.hidden, b.hidden, replicated)
	l.raw(3*b.hidden, replicated)
	attention := b.layers - 1
	for attention > 0 && (b.mixer(attention) == "linear_attention" || m.KindOf(attention).Kind == estimator.LayerRecurrent ||
		m.KindOf(attention).Kind == estimator.LayerStateless) {
		attention--
	}
	b.mix(l, attention)
	b.feedForward(l, b.layers-1)
	b.parameters = parameters // parameters are counted without the draft, as model cards do
	w := l.kind.Weights
	return &estimator.Draft{
		Layers: n,
		Weights: estimator.PlacedWeights{
			Sharded: mul(w.Sharded, n), KV: mul(w.KV, n), Experts: mul(w.Experts, n), Replicated: mul(w.Replicated, n),
		},
		KVKind: last,
	}
}
