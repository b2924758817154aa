// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/warm"
)

// ranking makes ranks of what Score says of nodes, because 101 scores are too few to tell them apart, and between equal scores
// the framework takes any node. The framework keeps what Score said, and has it ranked anew with each node that it adds, so ranks may depend on all
// nodes while what Score says may not.
type ranking struct{ world *shared.World }

// NormalizeScore gives the best node 100, the next one 99, and so on; from the hundred-and-first on, all have 0. Of equal nodes
// the first by name is better. Nodes that are the best there can be all have 100: for others' scores to choose from.
func (r ranking) NormalizeScore(_ context.Context, state fwk.CycleState, _ *corev1.Pod, scores fwk.NodeScoreList) *fwk.Status {
	s := cycle.Ranked(state)
	if s == nil || s.Viewer.Mix == nil {
		return nil // they are scores
	}
	var room [fwk.MaxScore]int
	best := room[:0] // the best, in order
	better := func(i, j int) bool {
		return scores[i].Score > scores[j].Score || scores[i].Score == scores[j].Score && scores[i].Name < scores[j].Name
	}
	top := fwk.MaxScore
	for i := range scores {
		if scores[i].Score == math.MaxInt64 {
			top = fwk.MaxScore - 1
			continue
		}
		if len(best) == cap(best) {
			if !better(i, best[len(best)-1]) {
				continue
			}
			best = best[:len(best)-1]
		}
		at, _ := slices.BinarySearchFunc(best, i, func(have, i int) int {
			if better(have, i) {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, i)
	}
	best = r.warmer(s, scores, best)
	for i := range scores {
		if scores[i].Score == math.MaxInt64 {
			scores[i].Score = fwk.MaxScore
		} else {
			scores[i].Score = 0
		}
	}
	for rank, i := range best {
		scores[i].Score = max(top-int64(rank), 0)
	}
	return nil
}

// warmer returns the order with warm nodes moved up: before those that are as good, and from there a part of the way to the best one
// that gives the pod as few GPUs, half of it for warm GPUs by weight 1. Those that are none of the best count as behind them.
func (r ranking) warmer(s *cycle.State, scores fwk.NodeScoreList, best []int) []int {
	if !s.Warm.Prefers() {
		return best
	}
	levels := map[int]warm.Level{}
	for i := range scores {
		if scores[i].Score == math.MinInt64 {
			continue // it was filled meanwhile
		}
		if ni, err := r.world.NodeInfo(scores[i].Name); err == nil {
			if level := s.LevelOn(ni); level != warm.Cold {
				levels[i] = level
			}
		}
	}
	if len(levels) == 0 {
		return best
	}
	const step = 1000                                    // between two places
	places := make(map[int]int64, len(best)+len(levels)) // by the index of the score
	for place, i := range best {
		places[i] = int64(place) * step
	}
	order := slices.Clone(best)
	for i, level := range levels {
		if _, among := places[i]; !among {
			order = append(order, i)
		}
		// firstOf returns the place of the first one that is as good by some measure, else behind all.
		firstOf := func(asGood func(score int64) bool) int64 {
			at := slices.IndexFunc(best, func(j int) bool { return asGood(scores[j].Score) })
			if at < 0 {
				at = len(best)
			}
			return int64(at) * step
		}
		here := firstOf(func(score int64) bool { return score == scores[i].Score })
		first := firstOf(func(score int64) bool { return alloc.OptionOf(score) == alloc.OptionOf(scores[i].Score) })
		places[i] = here - warm.Part(here-first, level, s.Warm.Weight)
	}
	slices.SortFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(places[i], places[j]), cmp.Compare(levels[j], levels[i]), strings.Compare(scores[i].Name, scores[j].Name))
	})
	return order
}
