// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cycle

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/alloctest"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/warm"
)

// TestTheWarmestPlaceIsValid: it is the best one or one of warm GPUs alone, takes as few GPUs, can be booked, and its raised score is
// the higher one; by weight 0 it is the best one.
func TestTheWarmestPlaceIsValid(t *testing.T) {
	moved := 0
	rapid.Check(t, func(t *rapid.T) {
		n := alloctest.DrawNode(t, 6)
		total := rapid.IntRange(1, 120).Draw(t, "total")
		pod := bt.MakePod("p").Memory(fmt.Sprintf("%dGi", total)).GPUCount("1,2,4").Obj()
		parsed, err := berthv1alpha1.ParsePodRequest(pod)
		if err != nil {
			t.Fatal(err)
		}
		request, _, err := gpustate.NewRequest(pod, parsed, nil, gpustate.Sizing{})
		if err != nil {
			t.Fatal(err)
		}
		s := &State{Pod: &Pod{
			Request: request, Strategy: rapid.SampledFrom(alloc.Strategies).Draw(t, "strategy"), Warm: Warm{Weight: rapid.Int64Range(0, 100).Draw(t, "weight")},
		}}
		view := &gpustate.View{Node: *alloc.ByUUID(n)}
		best, ok := alloc.Best(&view.Node, request.On(&view.Node), s.Strategy)
		if !ok {
			return
		}
		raised := func(a *alloc.Allocation, l warm.Level) int64 {
			return warm.Raise(alloc.Score(&view.Node, a, s.Strategy), l, s.Warm.Weight)
		}
		for gpus := range uint64(1) << len(n.Devices) { // each set of warm ones
			w := warm.Warmth{GPUs: gpus}
			got, level := s.Warmest(view, &best, &w)
			if err := alloc.Validate(&view.Node, got.Devices); err != nil {
				t.Fatal(err)
			}
			outside := false
			for _, d := range got.Devices {
				outside = outside || w.GPUs&(1<<view.Position(d.UUID)) == 0
			}
			switch {
			case got.Option != best.Option:
				t.Fatalf("it takes %d GPUs, and the best place %d", len(got.Devices), len(best.Devices))
			case level == warm.GPUs && outside || level != warm.GPUs && got != &best:
				t.Fatalf("the place %v has level %d", got, level)
			case raised(got, level) < raised(&best, w.Level()):
				t.Fatal("the best place would be better")
			case s.Warm.Weight == 0 && got != &best:
				t.Fatal("it counts by weight 0")
			}
			if got != &best {
				moved++
			}
		}
	})
	if moved == 0 && !testing.Short() { // which tries less
		t.Error("no place was another one than the best: that shows nothing")
	}
}
