// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"fmt"
	"testing"
)

// busyNode returns a node of that many 80 GiB devices with full NVLink, on which more and more is used.
func busyNode(devices int) *Node {
	n := &Node{Name: "node"}
	for i := range devices {
		n.Devices = append(n.Devices, Device{
			UUID:     fmt.Sprintf("GPU-4b1d2c3e-9f1a-4c77-8a55-0d7e9c1b2a%02d", i),
			Index:    devices - 1 - i,
			Model:    "NVIDIA H100 80GB HBM3",
			Total:    MiB(81559),
			Capacity: MiB(80791),
			Used:     GiB(uint64(i * 5 % 7)),
			Links:    (1<<devices - 1) &^ (1 << i),
		})
	}
	return n
}

// pairs leaves only the links of an NVLink bridge: devices 0-1, 2-3, ...
func pairs(n *Node) *Node {
	for i := range n.Devices {
		n.Devices[i].Links = 1 << (i ^ 1)
	}
	return n
}

func powersOfTwo(tb testing.TB, total Bytes) *Request {
	return request(tb, even(1, total), even(2, total.DividedUp(2)), even(4, total.DividedUp(4)), even(8, total.DividedUp(8)))
}

func BenchmarkPlan(b *testing.B) {
	uneven := even(4, GiB(12))
	uneven.Shares[0] = GiB(14)
	for _, bench := range []struct {
		name string
		n    *Node
		r    *Request
	}{
		{"8 GPUs, 4 options", busyNode(8), powersOfTwo(b, GiB(60))},
		{"8 GPUs, 4 options, pairs", pairs(busyNode(8)), powersOfTwo(b, GiB(60))},
		{"16 GPUs, 4 options, pairs", pairs(busyNode(16)), powersOfTwo(b, GiB(60))},
		{"8 GPUs, uneven", busyNode(8), request(b, uneven)},
		{"8 GPUs, nothing fits", busyNode(8), powersOfTwo(b, GiB(900))},
	} {
		for _, s := range []Strategy{MostAllocated, LeastAllocated, Fragmentation} {
			b.Run(bench.name+"/"+string(s), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Plan(bench.n, bench.r, s)
				}
			})
		}
	}
}

func BenchmarkBest(b *testing.B) {
	n, r := busyNode(8), powersOfTwo(b, GiB(60))
	b.ReportAllocs()
	for b.Loop() {
		Best(n, r, MostAllocated)
	}
}

func BenchmarkFits(b *testing.B) {
	for name, total := range map[string]Bytes{"first option": GiB(60), "last option": GiB(540), "none": GiB(900)} {
		n, r := busyNode(8), powersOfTwo(b, total)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Fits(n, r)
			}
		})
	}
}
