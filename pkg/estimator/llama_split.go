// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"strconv"
	"strings"
)

// A unit is what llama.cpp puts on a device whole: a layer, a prediction layer (NextN), or the output layer, which is
// the last one (llama-model.cpp, load_tensors: n_layer_all + 1).

// units returns how many there are.
func (l *llama) units() int64 {
	n := int64(l.m.LayerCount) + 1
	if l.m.Draft != nil {
		n = add(n, l.m.Draft.Layers)
	}
	return n
}

// share is the units of one device, the first one and the one behind the last.
type share struct{ from, to int64 }

// shares returns the units of each of n devices. In tensor mode all of the devices have a part of each unit.
func (l *llama) shares(n int, first int64) []share {
	out := make([]share, n)
	if l.tensorMode() {
		out[0] = share{first, l.units()}
		return out
	}
	splits := l.splits(n)
	device := 0
	out[0] = share{first, first}
	for unit := first; unit < l.units(); unit++ {
		for next := l.deviceOf(splits, unit-first, device); device < next; {
			device++
			out[device] = share{unit, unit}
		}
		out[device].to = unit + 1
	}
	return out
}

// splits returns the cumulative proportions of the devices, in parts per million.
func (l *llama) splits(n int) []int64 {
	out := make([]int64, n)
	var sum int64
	for i := range out {
		sum += 1_000_000
		out[i] = sum
	}
	if given := strings.Split(l.s.TensorSplit, ","); l.s.TensorSplit != "" {
		sum = 0
		for i := range out {
			if i < len(given) {
				if f, err := strconv.ParseFloat(strings.TrimSpace(given[i]), 64); err == nil && f > 0 && f < 1e6 {
					sum += int64(f * 1e6)
				}
			}
			out[i] = sum
		}
	}
	return out
}

// deviceOf returns the device of the unit-th offloaded unit: the first whose cumulative proportion exceeds
// unit / units (llama-model.cpp, get_layer_buft_list). Units come in order, so the search goes on from the device
// of the one before.
func (l *llama) deviceOf(splits []int64, unit int64, from int) int {
	whole := splits[len(splits)-1]
	for i := from; i < len(splits); i++ {
		if mul(splits[i], l.gpuLayers) > mul(unit, whole) {
			return i
		}
	}
	return len(splits) - 1
}

// place adds one unit to its device, or a part of it to each.
func (l *llama) place(o *Option, perToken []int64, unit int64, device int) {
	weights, cost := l.unitWeights(unit), l.cost(unit)
	if !l.tensorMode() {
		c := &o.Devices[device].Components
		c.Weights, c.KVCache = add(c.Weights, weights), add(c.KVCache, cost.kv)
		c.RecurrentState = add(c.RecurrentState, cost.state)
		perToken[device] = add(perToken[device], cost.perToken)
		return
	}
	parts := int64(len(o.Devices))
	mirrored := l.mirroredBytes(unit)
	for i := range o.Devices {
		c := &o.Devices[i].Components
		c.Weights = add(c.Weights, mirrored, ceilDiv(sub(weights, mirrored), parts))
		c.KVCache = add(c.KVCache, l.headsPart(cost.kv, parts))
		c.RecurrentState = add(c.RecurrentState, ceilDiv(cost.state, parts))
		perToken[i] = add(perToken[i], l.headsPart(cost.perToken, parts))
	}
}

// headsPart returns the largest part of a cache cut by its key/value heads; with fewer heads than devices each device
// is charged one.
func (l *llama) headsPart(n, parts int64) int64 {
	heads := max(l.m.KVHeads, 1)
	return ratio{ceilDiv(heads, parts), heads}.of(n)
}

// mirroredBytes returns what split mode tensor keeps whole on every device of a unit: vectors, routers and shared
// experts of a layer, and an output layer that is the embedding.
func (l *llama) mirroredBytes(unit int64) int64 {
	switch {
	case unit == l.units()-1:
		if l.m.Output == 0 {
			return l.unitWeights(unit)
		}
		return l.m.OtherWeights
	case unit < int64(l.m.LayerCount):
		return l.m.MirroredWeights / max(int64(l.m.LayerCount), 1)
	}
	return 0
}

// unitWeights returns the weights of one unit on its device. Tied embeddings are loaded a second time, as the output;
// prediction layers only if they are used (load_tensors skips them otherwise).
func (l *llama) unitWeights(unit int64) int64 {
	switch {
	case unit == l.units()-1:
		output := l.m.Output
		if output == 0 && !l.m.NoOutput {
			output = l.m.Embedding
		}
		return add(output, l.m.OtherWeights)
	case unit >= int64(l.m.LayerCount):
		if !l.drafting() {
			return 0
		}
		w := &l.m.Draft.Weights
		return ceilDiv(add(w.Sharded, w.KV, w.Experts, w.Replicated), max(l.m.Draft.Layers, 1))
	}
	weights := l.layerBytes(unit)
	if l.expertsOnHost(unit) {
		weights = sub(weights, l.expertBytes(unit))
	}
	return weights
}

// drafting says whether the model's own prediction layers are used.
func (l *llama) drafting() bool { return l.m.Draft != nil && l.s.SpeculativeTokens > 0 }

// cost returns what a unit keeps on a device. A prediction layer has a row of the main cache in some architectures,
// and one in the cache of its own context when it is used.
func (l *llama) cost(unit int64) kindCost {
	switch {
	case l.s.NoKVOffload || len(l.kinds) == 0 || unit >= l.units()-1:
		return kindCost{}
	case unit >= int64(l.m.LayerCount):
		rows := int64(0)
		if l.m.Draft.Cached {
			rows++
		}
		if l.drafting() {
			rows++
		}
		k := l.draftCost()
		return kindCost{kv: mul(k.kv, rows), perToken: mul(k.perToken, rows)}
	case unit < int64(len(l.m.LayerOrder)):
		return l.kinds[l.m.LayerOrder[unit]]
	}
	return l.kinds[0]
}

// draftCost returns what a prediction layer caches: the geometry of its kind without an indexer, which it does not
// have (src/models/glm-dsa.cpp, graph_mtp).
func (l *llama) draftCost() kindCost {
	k := l.m.Layers[l.m.Draft.KVKind]
	k.IndexerDim, k.IndexerHeads = 0, 0
	return l.costOf(&k)
}

// layerBytes returns all weights of a layer, and expertBytes those of its routed experts.
func (l *llama) layerBytes(unit int64) int64 {
	switch {
	case unit >= int64(l.m.LayerCount):
		return 0
	case unit < int64(len(l.m.LayerWeights)):
		return add(l.m.LayerWeights[unit], l.expertBytes(unit))
	case l.m.WeightsSource == WeightsFromFileSize || len(l.m.Layers) == 0:
		return ceilDiv(l.m.FileSize, max(int64(l.m.LayerCount), 1))
	}
	w := &l.m.KindOf(int(unit)).Weights
	return add(w.Sharded, w.KV, w.Experts, w.Replicated)
}

func (l *llama) expertBytes(unit int64) int64 {
	if unit < int64(len(l.m.ExpertWeights)) {
		return l.m.ExpertWeights[unit]
	}
	return 0
}

func (l *llama) expertsOnHost(unit int64) bool {
	return l.s.ExpertsOnCPU && (l.s.CPUExpertLayers == 0 || unit < l.s.CPUExpertLayers)
}
