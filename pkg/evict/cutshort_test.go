// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"math/rand/v2"
	"testing"

	"github.com/berth-dev/berth/pkg/alloc"
)

// TestFewSearchesAreCutShort: what makes the bound of the search rise, and leaves victims out that are no better than
// others, changes no plan that is proven; it only shows in how many searches end at their bound of steps. Steps are
// counted, so the same nodes always give the same number.
func TestFewSearchesAreCutShort(t *testing.T) {
	const nodes = 100
	for _, tc := range []struct {
		name             string
		devices, victims int
		alike, budgets   bool
		total            uint64
		most             int
	}{
		{"disruption budgets: without tighten 5", 8, 40, false, true, 300, 4},
		{"replicas of which few are needed: without drop 7", 16, 100, true, false, 60, 6},
		{"replicas: without sharpen 46, without inferiorTo 47", 16, 100, true, false, 150, 40},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 8))
			r := powersOfTwo(t, alloc.GiB(tc.total))
			cutShort := 0
			for range nodes {
				n := busyNode(tc.devices)
				victims := crowd(rng, n, tc.victims, 0.25, tc.alike)
				for i := range victims {
					if tc.budgets && rng.IntN(2) == 0 {
						victims[i].Budgets = []int{rng.IntN(2)}
					}
				}
				if p, ok := Best(n, r, victims, []int{0, 1}); !ok || !p.Exact {
					cutShort++
				}
			}
			if cutShort > tc.most {
				t.Errorf("%d of %d searches were cut short, want at most %d", cutShort, nodes, tc.most)
			}
			t.Logf("%d of %d searches were cut short", cutShort, nodes)
		})
	}
}
