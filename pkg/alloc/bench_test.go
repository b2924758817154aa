// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"testing"

	"github.com/berth-dev/berth/pkg/alloc"
)

// pairs leaves only the links of an NVLink bridge: devices 0-1, 2-3, ...
func pairs(n *alloc.Node) *alloc.Node {
	for i := range n.Devices {
		n.Devices[i].Links = 1 << (i ^ 1)
	}
	return n
}

func BenchmarkPlan(b *testing.B) {
	uneven := even(4, alloc.GiB(12))
	uneven.Shares[0] = alloc.GiB(14)
	for _, bench := range []struct {
		name string
		n    *alloc.Node
		r    *alloc.Request
	}{
		{"8 GPUs, 4 options", busyNode(8), powersOfTwo(b, alloc.GiB(60))},
		{"8 GPUs, 4 options, pairs", pairs(busyNode(8)), powersOfTwo(b, alloc.GiB(60))},
		{"16 GPUs, 4 options, pairs", pairs(busyNode(16)), powersOfTwo(b, alloc.GiB(60))},
		{"8 GPUs, uneven", busyNode(8), request(b, uneven)},
		{"8 GPUs, nothing fits", busyNode(8), powersOfTwo(b, alloc.GiB(900))},
	} {
		for _, s := range []alloc.Strategy{alloc.MostAllocated, alloc.LeastAllocated, alloc.Fragmentation} {
			b.Run(bench.name+"/"+string(s), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					alloc.Plan(bench.n, bench.r, s)
				}
			})
		}
	}
}

func BenchmarkBest(b *testing.B) {
	n, r := busyNode(8), powersOfTwo(b, alloc.GiB(60))
	b.ReportAllocs()
	for b.Loop() {
		alloc.Best(n, r, alloc.MostAllocated)
	}
}

func BenchmarkFits(b *testing.B) {
	for name, total := range map[string]alloc.Bytes{"first option": alloc.GiB(60), "last option": alloc.GiB(540), "none": alloc.GiB(900)} {
		n, r := busyNode(8), powersOfTwo(b, total)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				alloc.Fits(n, r)
			}
		})
	}
}
