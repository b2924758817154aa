// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// ranking makes ranks of what Score says of nodes, because 101 scores are too few to tell them apart, and between equal scores
// the framework takes any node. The framework keeps what Score said, and has it ranked anew with each node that it adds, so ranks may depend on all
// nodes while what Score says may not.
type ranking struct{}

// NormalizeScore gives the best node 100, the next one 99, and so on; from the hundred-and-first on, all have 0. Of equal nodes
// the first by name is better. Nodes that are the best there can be all have 100: for others' scores to choose from.
func (ranking) NormalizeScore(_ context.Context, state fwk.CycleState, _ *corev1.Pod, scores fwk.NodeScoreList) *fwk.Status {
	if s := cycle.Ranked(state); s == nil || s.Viewer.Mix == nil {
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
