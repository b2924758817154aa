// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"cmp"
	"math/bits"
	"slices"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/alloctest"
	"github.com/berth-dev/berth/pkg/alloc"
)

// The oracle does what the documentation says in the dullest way: it tries every set of devices and every way to
// match shares to it. It shares no code with the planner but the formulas of a strategy's weight.

// oracleKey is the documented order as numbers, most significant first.
type oracleKey struct {
	steps, unlike, unlinked, split int64
	weight                         uint64
	uuids                          []string
}

func (k oracleKey) compare(o oracleKey) int {
	return cmp.Or(
		cmp.Compare(k.steps, o.steps),
		cmp.Compare(k.unlike, o.unlike),
		cmp.Compare(k.unlinked, o.unlinked),
		cmp.Compare(k.split, o.split),
		cmp.Compare(k.weight, o.weight),
		slices.Compare(k.uuids, o.uuids),
	)
}

// oracleBest returns the best set for one option.
func oracleBest(n *alloc.Node, o *alloc.Option, mixed bool, s alloc.Strategy) (uint64, bool) {
	var best uint64
	var bestKey oracleKey
	for set := uint64(1); set < 1<<len(n.Devices); set++ {
		if !alloctest.Holds(n, o, mixed, set) {
			continue
		}
		var key oracleKey
		models := map[string]bool{}
		for i := range n.Devices {
			if set>>i&1 == 0 {
				continue
			}
			d := &n.Devices[i]
			models[d.Model] = true
			key.weight += s.Weight(o, d)
			key.unlinked -= int64(bits.OnesCount64(d.Links & set))
			key.uuids = append(key.uuids, d.UUID)
		}
		if len(models) > 1 {
			key.unlike = 1
		}
		if oracleSplit(n, set) {
			key.split = 1
		}
		key.steps = int64(key.weight / (64 << 20))
		slices.Sort(key.uuids)
		if best == 0 || key.compare(bestKey) < 0 {
			best, bestKey = set, key
		}
	}
	return best, best != 0
}

// oracleSplit says whether the set is on more than one NUMA node, of a node that knows where all usable devices are.
func oracleSplit(n *alloc.Node, set uint64) bool {
	on := map[int]bool{}
	for i := range n.Devices {
		d := &n.Devices[i]
		if d.NUMA == 0 && !d.Free().IsZero() {
			return false
		}
		if set>>i&1 == 1 {
			on[d.NUMA] = true
		}
	}
	return len(on) > 1
}

func uuids(n *alloc.Node, set uint64) []string {
	var all []string
	for i := range n.Devices {
		if set>>i&1 == 1 {
			all = append(all, n.Devices[i].UUID)
		}
	}
	slices.Sort(all)
	return all
}

func drawStrategy(t *rapid.T) alloc.Strategy {
	return rapid.SampledFrom([]alloc.Strategy{alloc.MostAllocated, alloc.LeastAllocated, alloc.Fragmentation}).Draw(t, "strategy")
}
