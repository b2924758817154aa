// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/pkg/alloc"
)

func TestScore(t *testing.T) {
	linked := node(gpu(0, 80, 0), gpu(1, 80, 0))
	linked.Devices[0].Links, linked.Devices[1].Links = 0b10, 0b01
	one := func(memory uint64) *alloc.Allocation {
		return &alloc.Allocation{Devices: []alloc.DeviceShare{{"GPU-a", alloc.GiB(memory)}}}
	}
	two := func(option int, memory uint64) *alloc.Allocation {
		return &alloc.Allocation{Option: option, Devices: []alloc.DeviceShare{{"GPU-a", alloc.GiB(memory)}, {"GPU-b", alloc.GiB(memory)}}}
	}
	for _, tc := range []struct {
		name string
		n    *alloc.Node
		a    *alloc.Allocation
		s    alloc.Strategy
		want int64
	}{
		// Nothing left: 900 + 50 + 50 of 1000, which is the top of the first band.
		{"a perfect fit is the best there is", node(gpu(0, 80, 40)), one(40), alloc.MostAllocated, 100},
		// 10 GiB left: (10240 + 64)/64 = 161 = 128 × (1 + 33/128) is 7.258 doublings of 13, so 1000 − 558 = 442, and
		// 0.9 × 442 = 398; one of eight sizes still fits into 10 of 80 GiB, so 7/8 of the 10 are in pieces:
		// 0.05 × (1000 − 109) = 44; and 50 for links. 51 + 49 × 0.492 = 75.
		{"10Gi left of 80", node(gpu(0, 80, 30)), one(40), alloc.MostAllocated, 75},
		// The same without a link: 26 + 24 × 0.442 = 36, and 51 + 49 × 0.442 = 72.
		{"two devices, as the second option", node(gpu(0, 80, 30), gpu(1, 80, 30)), two(1, 40), alloc.MostAllocated, 36},
		{"two devices, as the first option", node(gpu(0, 80, 30), gpu(1, 80, 30)), two(0, 40), alloc.MostAllocated, 72},
		// Half of the capacity is left: 0.9 × 500 = 450; half of the sizes fit, so 20 of 80 GiB are in pieces:
		// 0.05 × 750 = 37; links 50. 51 + 49 × 0.537 = 77.
		{"spreading, half left", node(gpu(0, 80, 0)), one(40), alloc.LeastAllocated, 77},
		{"spreading, linked devices", linked, two(0, 40), alloc.LeastAllocated, 77},
		// Nothing was in pieces, a quarter of the device is now: (1000 − 250)/2 = 375, 0.9 × 375 = 337; 37; 50.
		{"cutting an empty device in half", node(gpu(0, 80, 0)), one(40), alloc.Fragmentation, 71},
		// A quarter was in pieces, nothing is now: (1000 + 250)/2 = 625, 0.9 × 625 = 562; 50; 50.
		{"using up the other half", node(gpu(0, 80, 40)), one(40), alloc.Fragmentation, 83},
		{"an unknown device", node(gpu(1, 80, 0)), one(40), alloc.MostAllocated, 0},
		{"no devices", node(gpu(0, 80, 0)), &alloc.Allocation{}, alloc.MostAllocated, 0},
		{"the eighth option", node(gpu(0, 80, 40)), &alloc.Allocation{Option: 7, Devices: one(40).Devices}, alloc.MostAllocated, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := alloc.Score(tc.n, tc.a, tc.s); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

// TestFewerDevicesAlwaysScoreMore: over all nodes and strategies, an allocation of an earlier option scores more than
// one of a later option, down to the seventh.
func TestFewerDevicesAlwaysScoreMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, s := drawRequest(t, 4), drawStrategy(t)
		for _, a := range alloc.Plan(drawNode(t, 6), r, s) {
			n := drawNode(t, 6)
			for _, b := range alloc.Plan(n, r, s) {
				score := alloc.Score(n, &b, s)
				if score < 0 || score > alloc.MaxScore {
					t.Fatalf("score %d", score)
				}
				if a.Option < b.Option && alloc.Score(n, &alloc.Allocation{Option: a.Option, Devices: b.Devices}, s) <= score {
					t.Fatalf("option %d scores no more than option %d", a.Option, b.Option)
				}
			}
		}
	})
}

// TestATighterFitNeverScoresLess, nor a looser one when pods are spread.
func TestATighterFitNeverScoresLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		memory := rapid.Uint64Range(1, 70).Draw(t, "GiB")
		a := &alloc.Allocation{Devices: []alloc.DeviceShare{{"GPU-a", alloc.GiB(memory)}}}
		used := rapid.Uint64Range(0, 80-memory).Draw(t, "used")
		more := rapid.Uint64Range(used, 80-memory).Draw(t, "more used")
		loose, tight := node(gpu(0, 80, used)), node(gpu(0, 80, more))
		// Pieces are only 5 % of the score, and so may cost 2 points of 50.
		if l, m := alloc.Score(loose, a, alloc.MostAllocated), alloc.Score(tight, a, alloc.MostAllocated); m < l-2 {
			t.Fatalf("%d GiB used scores %d, %d used %d", more, m, used, l)
		}
		if l, m := alloc.Score(loose, a, alloc.LeastAllocated), alloc.Score(tight, a, alloc.LeastAllocated); l < m-2 {
			t.Fatalf("%d GiB used scores %d, %d used %d", more, m, used, l)
		}
	})
}
