// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"maps"
	"slices"
	"sort"

	"github.com/berth-dev/berth/pkg/alloc"
)

// A device that is free to f bytes is of use to a request for n devices of at least s bytes each if s ≤ f, and its node has n
// such devices of its model. MIG instances are never used together. Fragmented is Σ over devices of f × the fraction of the
// known requests that the device is of no use to. That is the measure of Weng et al., "Beware of Fragmentation" (USENIX ATC
// 2023), with the cluster's own requests for its typical ones.
//
// The requests that are known are those of the pods that are bound, each for what it was given, and of the pods that wait,
// each for the option that it would rather have, the one with the fewest devices; of shares that differ, the smallest counts.
// Without any, nothing is fragmented.

// requests are the sizes of what is asked for, by the number of devices.
type requests struct {
	shares map[int][]alloc.Bytes
	total  int
}

func (r *requests) add(devices int, share alloc.Bytes) {
	if devices == 0 || share.IsZero() {
		return
	}
	if r.shares == nil {
		r.shares = map[int][]alloc.Bytes{}
	}
	r.shares[devices] = append(r.shares[devices], share)
	r.total++
}

// upTo returns how many of the sorted shares are at most that large.
func upTo(sorted []alloc.Bytes, most alloc.Bytes) int {
	return sort.Search(len(sorted), func(i int) bool { return most.Less(sorted[i]) })
}

// piece is what is free on a device.
type piece struct {
	free     alloc.Bytes
	model    string
	instance bool
}

// pieces are what is free on all devices; those of one node are neighbours.
type pieces struct {
	all   []piece
	nodes []nodePieces
}

// nodePieces are where those of a node end.
type nodePieces struct {
	node string
	end  int
}

func (p *pieces) add(n *nodeSums, d *alloc.Device, free alloc.Bytes) {
	if free.IsZero() {
		return
	}
	p.all = append(p.all, piece{free, n.names[d.Model], d.Parent != ""})
	if last := len(p.nodes) - 1; last >= 0 && p.nodes[last].node == n.node {
		p.nodes[last].end++
		return
	}
	p.nodes = append(p.nodes, nodePieces{n.node, len(p.all)})
}

// addFragments adds up what is free in pieces that are too small.
func (s *sums) addFragments() {
	if s.requests.total == 0 {
		return
	}
	counts := slices.Sorted(maps.Keys(s.requests.shares)) // sums of floats depend on their order
	for _, shares := range s.requests.shares {
		slices.SortFunc(shares, alloc.Bytes.Compare)
	}
	start := 0
	for _, node := range s.pieces.nodes {
		on := s.pieces.all[start:node.end]
		start = node.end
		slices.SortStableFunc(on, func(a, b piece) int { return b.free.Compare(a.free) })
		for i := range on {
			of := 0
			for _, devices := range counts {
				if most, ok := together(on, i, devices); ok {
					of += upTo(s.requests.shares[devices], most)
				}
			}
			s.addFragment(node.node, on[i].model, on[i].free, s.requests.total-of)
		}
	}
}

// together returns what the pieces have at least that a request for that many devices would take, piece i one of them: the
// largest others of its model. on are those of a node, largest first.
func together(on []piece, i, devices int) (least alloc.Bytes, ok bool) {
	least = on[i].free
	if devices == 1 {
		return least, true
	}
	if on[i].instance {
		return alloc.Bytes{}, false
	}
	missing := devices - 1
	for j := range on {
		if missing == 0 {
			break
		}
		if j != i && on[j].model == on[i].model && !on[j].instance {
			least, missing = least.Min(on[j].free), missing-1
		}
	}
	return least, missing == 0
}

func (s *sums) addFragment(node, model string, free alloc.Bytes, useless int) {
	amount := float64(free.Uint64()) * float64(useless) / float64(s.requests.total)
	s.Models[model].Fragmented += amount
	if s.PerNode != nil {
		s.PerNode[NodeModel{node, model}].Fragmented += amount
	}
}
