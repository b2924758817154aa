// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/fleet"
)

// TestFragmented: each node is a list of what is free on its GPUs of 80 GiB, and each request is a number of GPUs and what it
// needs on each.
func TestFragmented(t *testing.T) {
	type request struct{ devices, share uint64 }
	tests := []struct {
		name     string
		nodes    [][]uint64
		requests []request
		want     float64
	}{
		{"without requests nothing is too small", [][]uint64{{1}}, nil, 0},
		{"a piece as large as the request is of use", [][]uint64{{20}}, []request{{1, 20}}, 0},
		{"one that is smaller is not", [][]uint64{{19}}, []request{{1, 20}}, 19},
		{"only the small pieces count", [][]uint64{{80, 10, 5}}, []request{{1, 20}}, 15},
		{"in proportion to the requests that they are too small for", [][]uint64{{10}}, []request{{1, 5}, {1, 20}, {1, 20}, {1, 40}}, 7.5},
		{"two GPUs are needed and each node has one", [][]uint64{{40}, {40}}, []request{{2, 30}}, 80},
		{"two GPUs of one node", [][]uint64{{40, 40}}, []request{{2, 30}}, 0},
		{"two GPUs, one of them too small", [][]uint64{{40, 29}}, []request{{2, 30}}, 69},
		{"a third that is too small is of no use", [][]uint64{{40, 30, 29}}, []request{{2, 30}}, 29},
		{"for one or two GPUs", [][]uint64{{40, 29}, {35}}, []request{{1, 30}, {2, 30}}, (40 + 35 + 2*29) / 2.0},
		{"a full GPU is in no piece", [][]uint64{{0, 80}}, []request{{1, 30}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			for i, free := range tt.nodes {
				name := fmt.Sprintf("n%d", i)
				report := bt.MakeGPUNode(name)
				for j, f := range free {
					report.GPU(bt.GPUOf(name, j), "80Gi").Process("", fmt.Sprintf("%dGi", 80-f))
				}
				w.node(name, report)
			}
			for _, r := range tt.requests {
				w.cluster.Waiting = append(w.cluster.Waiting, fleet.Waiting{Created: epoch, Devices: int(r.devices), Share: alloc.GiB(r.share)})
			}
			if diff := cmp.Diff(tt.want, w.measure().Models[h100].Fragmented/gib, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
				t.Errorf("GiB (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRequestsAreThoseOfBoundPodsToo: what they were given, by the smallest share.
func TestRequestsAreThoseOfBoundPodsToo(t *testing.T) {
	w := newWorld(t)
	w.node("n", bt.MakeGPUsOf("n", 2, "80Gi"))
	w.node("m", bt.MakeGPUsOf("m", 2, "40Gi"))
	w.pods(bt.MakePod("a").Memory("90Gi").Bound("n", epoch, "GPU-n-0=50Gi", "GPU-n-1=41Gi").Started(epoch))
	// 30 and 39 GiB are left on n, and 40 twice on m: all less than 41.
	w.want("all", w.measure().Models[h100], figures{
		"total": 240, "capacity": 240, "booked": 91, "free": 149, "largest": 40, "fragmented": 149, "available": 4,
	})
}

// TestInstancesAreNotUsedTogether, however many there are.
func TestInstancesAreNotUsedTogether(t *testing.T) {
	w := newWorld(t)
	w.node("n", bt.MakeGPUNodeOf("n", 1, "80Gi").Instance("MIG-1", "GPU-0", "40Gi").Instance("MIG-2", "GPU-0", "40Gi"))
	w.cluster.Waiting = []fleet.Waiting{{Created: epoch, Devices: 2, Share: alloc.GiB(10)}, {Created: epoch, Devices: 1, Share: alloc.GiB(10)}}
	if got := w.measure().Models[h100+" MIG 3g.40gb"].Fragmented / gib; got != 40 { // 80 for one of two requests
		t.Errorf("%v GiB are fragmented, want 40", got)
	}
}

// TestUnlikeModelsAreNotUsedTogether: two requests for one and for two GPUs, and a node that has one of each model.
func TestUnlikeModelsAreNotUsedTogether(t *testing.T) {
	w := newWorld(t)
	w.node("n", bt.MakeGPUNode("n").GPU("GPU-0", "80Gi").GPU("GPU-1", "40Gi").Model("NVIDIA A100"))
	w.cluster.Waiting = []fleet.Waiting{{Created: epoch, Devices: 2, Share: alloc.GiB(10)}, {Created: epoch, Devices: 1, Share: alloc.GiB(10)}}
	n := w.measure()
	if a, b := n.Models[h100].Fragmented/gib, n.Models["NVIDIA A100"].Fragmented/gib; a != 40 || b != 20 {
		t.Errorf("%v and %v GiB are fragmented, want 40 and 20: half of what is free", a, b)
	}
}
