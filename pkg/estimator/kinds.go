// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// maxKinds bounds the kinds of layers of a model, so that it stays small enough to be stored.
const maxKinds = 20

// CompactKinds returns kinds and order with at most maxKinds kinds as long as the layers have no more geometries
// than that: kinds that differ only in their weights are then merged, each layer getting the average, rounded up.
// (Checkpoints of mixed precision give almost every layer a size of its own.)
func CompactKinds(kinds []LayerKind, order []int32) ([]LayerKind, []int32) {
	if len(kinds) <= maxKinds {
		return kinds, order
	}
	type sums struct {
		index int32
		total PlacedWeights
	}
	merged := make([]LayerKind, 0, maxKinds)
	byGeometry := make(map[LayerKind]*sums, maxKinds)
	renumbered := make([]int32, len(kinds))
	for i, k := range kinds {
		geometry := k
		geometry.Count, geometry.Weights = 0, PlacedWeights{}
		s := byGeometry[geometry]
		if s == nil {
			s = &sums{index: int32(len(merged))}
			byGeometry[geometry] = s
			merged = append(merged, geometry)
		}
		n := int64(k.Count)
		merged[s.index].Count += k.Count
		s.total.Sharded = add(s.total.Sharded, mul(k.Weights.Sharded, n))
		s.total.KV = add(s.total.KV, mul(k.Weights.KV, n))
		s.total.Experts = add(s.total.Experts, mul(k.Weights.Experts, n))
		s.total.Replicated = add(s.total.Replicated, mul(k.Weights.Replicated, n))
		renumbered[i] = s.index
	}
	for _, s := range byGeometry {
		n := int64(merged[s.index].Count)
		merged[s.index].Weights = PlacedWeights{
			Sharded: ceilDiv(s.total.Sharded, n), KV: ceilDiv(s.total.KV, n),
			Experts: ceilDiv(s.total.Experts, n), Replicated: ceilDiv(s.total.Replicated, n),
		}
	}
	out := make([]int32, len(order))
	for i, k := range order {
		out[i] = renumbered[k]
	}
	return merged, out
}
