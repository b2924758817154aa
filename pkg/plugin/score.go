// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// PreScore skips pods that ask for no GPU memory: a PreFilter that skips does not skip Score.
func (pl *Plugin) PreScore(_ context.Context, state fwk.CycleState, _ *corev1.Pod, _ []fwk.NodeInfo) *fwk.Status {
	if cycle.Of(state) == nil {
		return fwk.NewStatus(fwk.Skip)
	}
	return nil
}

// Score says how good the best allocation on the node is, 0 to 100, whatever the other nodes are: a score that
// depended on them could not be reused for the next pod that is alike.
func (pl *Plugin) Score(_ context.Context, state fwk.CycleState, _ *corev1.Pod, ni fwk.NodeInfo) (int64, *fwk.Status) {
	s := cycle.Of(state)
	if s == nil {
		return 0, nil
	}
	if score, ok := s.Scores.Load(ni.Node()); ok {
		return score.(int64), nil
	}
	view := s.View(ni)
	return s.Fit(&view).Score, nil // 0 is also of a node that was filled meanwhile
}

// ScoreExtensions returns nil: scores are absolute.
func (pl *Plugin) ScoreExtensions() fwk.ScoreExtensions { return nil }
