// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"pgregory.net/rapid"
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

// oracleMatches says whether the shares from i on can be matched to the devices of the set.
func oracleMatches(n *Node, o *Option, i int, set uint64) bool {
	if i == len(o.Shares) {
		return true
	}
	for d := range n.Devices {
		if set>>d&1 == 1 && !n.Devices[d].Free().Less(o.On(i, &n.Devices[d])) && oracleMatches(n, o, i+1, set&^(1<<d)) {
			return true
		}
	}
	return false
}

// oracleBest returns the best set for one option.
func oracleBest(n *Node, o *Option, mixed bool, s Strategy) (uint64, bool) {
	var best uint64
	var bestKey oracleKey
	for set := uint64(1); set < 1<<len(n.Devices); set++ {
		if bits.OnesCount64(set) != len(o.Shares) || !oracleMatches(n, o, 0, set) {
			continue
		}
		var key oracleKey
		models := map[string]bool{}
		instances := 0
		for i := range n.Devices {
			if set>>i&1 == 0 {
				continue
			}
			d := &n.Devices[i]
			if d.Parent != "" {
				instances++
			}
			models[d.Model] = true
			key.weight += s.weight(o, d, d.Free())
			key.unlinked -= int64(bits.OnesCount64(d.Links & set))
			key.uuids = append(key.uuids, d.UUID)
		}
		if instances > 0 && len(o.Shares) > 1 {
			continue
		}
		if len(models) > 1 {
			if !mixed {
				continue
			}
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
func oracleSplit(n *Node, set uint64) bool {
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

func uuids(n *Node, set uint64) []string {
	var all []string
	for i := range n.Devices {
		if set>>i&1 == 1 {
			all = append(all, n.Devices[i].UUID)
		}
	}
	slices.Sort(all)
	return all
}

// permuted returns the node with its devices in another order and their links moved along.
func permuted(n *Node, order []int) *Node {
	p := &Node{Name: n.Name}
	for _, from := range order {
		d := n.Devices[from]
		d.Links = 0
		for to, other := range order {
			d.Links |= n.Devices[from].Links >> other & 1 << to
		}
		p.Devices = append(p.Devices, d)
	}
	return p
}

// drawAmount draws amounts that are often equal, and often nearly so.
func drawAmount(t *rapid.T, maxGiB int, label string) Bytes {
	b := GiB(uint64(rapid.IntRange(0, maxGiB).Draw(t, label)))
	switch rapid.IntRange(0, 5).Draw(t, label+" noise") {
	case 0:
		b = b.Plus(MiB(uint64(rapid.IntRange(0, 130).Draw(t, label+" MiB"))))
	case 1:
		b = b.Plus(BytesOf(uint64(rapid.IntRange(0, 3).Draw(t, label+" bytes"))))
	}
	return b
}

// drawNode draws a small node of up to size devices, with names that are not in the order of their indexes.
func drawNode(t *rapid.T, size int) *Node {
	n := &Node{Name: "node"}
	count := rapid.IntRange(1, size).Draw(t, "devices")
	indexes := rapid.Permutation(seq(count)).Draw(t, "indexes")
	models := rapid.IntRange(1, 2).Draw(t, "models")
	for i := range count {
		d := Device{
			UUID:     fmt.Sprintf("GPU-%c", 'a'+i),
			Index:    indexes[i],
			Model:    fmt.Sprintf("model %d", rapid.IntRange(1, models).Draw(t, "model")),
			Capacity: drawAmount(t, 8, "capacity"),
		}
		d.Total = d.Capacity.Plus(MiB(512))
		d.Used = drawAmount(t, 9, "used")
		if rapid.Bool().Draw(t, "empty") {
			d.Used = Bytes{}
		}
		if rapid.IntRange(0, 7).Draw(t, "blocked") == 0 {
			d.Blocked = ReasonUnhealthy
		}
		if rapid.IntRange(0, 5).Draw(t, "instance") == 0 {
			d.Parent = fmt.Sprintf("GPU-%d", rapid.IntRange(1, 2).Draw(t, "parent"))
		}
		n.Devices = append(n.Devices, d)
	}
	if rapid.Bool().Draw(t, "NUMA") {
		// Often all of them are known, else the order would hardly ever be looked at.
		least := rapid.SampledFrom([]int{1, 1, 1, 0}).Draw(t, "least NUMA node")
		for i := range count {
			n.Devices[i].NUMA = rapid.IntRange(least, 2).Draw(t, "NUMA node")
		}
	}
	if rapid.Bool().Draw(t, "linked") {
		for i := range count {
			for j := range i {
				if rapid.Bool().Draw(t, "link") {
					n.Devices[i].Links |= 1 << j
					n.Devices[j].Links |= 1 << i
				}
			}
		}
	}
	return n
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// drawRequest draws a request of options of up to size devices.
func drawRequest(t *rapid.T, size int) *Request {
	var options []Option
	for _, k := range rapid.SliceOfNDistinct(rapid.IntRange(1, size), 1, 3, rapid.ID).Draw(t, "counts") {
		o := Option{TensorParallelSize: k}
		even := rapid.Bool().Draw(t, "even")
		for i := range k {
			if even && i > 0 {
				o.Shares = append(o.Shares, o.Shares[0])
				continue
			}
			o.Shares = append(o.Shares, drawAmount(t, 4, "share").Plus(MiB(64)))
		}
		slices.SortFunc(o.Shares, func(a, b Bytes) int { return b.Compare(a) })
		if rapid.IntRange(0, 3).Draw(t, "takes") == 0 {
			o.Take = Ratio(rapid.IntRange(1, 1_000_000).Draw(t, "take"))
			o.Outside = MiB(uint64(rapid.IntRange(0, 600).Draw(t, "outside")))
		}
		options = append(options, o)
	}
	r, err := NewRequest(options, rapid.Bool().Draw(t, "mixed models"))
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func drawStrategy(t *rapid.T) Strategy {
	return rapid.SampledFrom([]Strategy{MostAllocated, LeastAllocated, Fragmentation}).Draw(t, "strategy")
}
