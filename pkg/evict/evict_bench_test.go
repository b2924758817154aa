// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/berth-dev/berth/pkg/alloc"
)

// crowd fills the node with that many victims, of which some span devices, and returns them.
func crowd(rng *rand.Rand, n *alloc.Node, size int, spanning float64, alike bool) []Victim {
	var victims []Victim
	devices := len(n.Devices)
	for i := range n.Devices {
		n.Devices[i].Used = alloc.Bytes{}
	}
	span := 1 + spanning*11/3 // on average: 2, 4 and 8 are equally frequent
	perDevice := uint64(float64(n.Devices[0].Capacity.Uint64()) * float64(devices) / (float64(size) * span))
	for i := range size {
		v := Victim{Name: fmt.Sprintf("pod-%03d", i), Priority: int32(rng.IntN(3)), Idle: rng.IntN(2) == 0, LastActive: rng.Int64N(1000)}
		memory := perDevice*3/4 + rng.Uint64N(perDevice/2)
		if alike {
			v.Priority, v.Idle, memory = 0, false, perDevice
		}
		span := 1
		if rng.Float64() < spanning {
			span = 1 << (1 + rng.IntN(3))
		}
		for j := range span {
			v.Frees = append(v.Frees, Charge{(i + j) % devices, alloc.BytesOf(memory)})
		}
		v.Reload = alloc.BytesOf(memory * uint64(span))
		if alike {
			v.Reload = alloc.GiB(20)
		}
		for _, f := range v.Frees {
			n.Devices[f.Device].Used = n.Devices[f.Device].Used.Plus(f.Memory)
		}
		victims = append(victims, v)
	}
	return victims
}

func BenchmarkEvict(b *testing.B) {
	for _, bench := range []struct {
		devices, victims int
		spanning         float64
		alike            bool
		budget           bool
	}{
		{8, 8, 0, false, false},
		{8, 40, 0, false, false},
		{8, 40, 0, true, false},
		{8, 40, 0.25, false, false},
		{8, 40, 0.25, true, false},
		{8, 40, 0.25, false, true},
		{16, 100, 0, false, false},
		{16, 100, 0.25, false, false},
		{16, 100, 0.25, true, false},
		{16, 100, 0.25, false, true},
		{16, 100, 0.6, false, false},
	} {
		for _, total := range []uint64{60, 300} {
			name := fmt.Sprintf("%d GPUs, %d victims, %.0f%% spanning, alike %v, budget %v, %dGi",
				bench.devices, bench.victims, 100*bench.spanning, bench.alike, bench.budget, total)
			b.Run(name, func(b *testing.B) {
				const nodes = 20
				rng := rand.New(rand.NewPCG(1, 2))
				r := powersOfTwo(b, alloc.GiB(total))
				var ns []*alloc.Node
				var vs [][]Victim
				for range nodes {
					n := busyNode(bench.devices)
					victims := crowd(rng, n, bench.victims, bench.spanning, bench.alike)
					for i := range victims {
						if bench.budget && rng.IntN(2) == 0 {
							victims[i].Budgets = []int{rng.IntN(2)}
						}
					}
					ns, vs = append(ns, n), append(vs, victims)
				}
				inexact, i := 0, 0
				b.ReportAllocs()
				for b.Loop() {
					p, _ := Best(ns[i%nodes], r, vs[i%nodes], []int{0, 1})
					if !p.Exact {
						inexact++
					}
					i++
				}
				b.ReportMetric(float64(inexact)/float64(b.N), "inexact/op")
			})
		}
	}
}
