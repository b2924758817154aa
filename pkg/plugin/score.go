// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// PreScore skips pods that ask for no GPU memory: a PreFilter that skips does not skip Score. By the strategy Fragmentation the
// CPU and host memory that they take matter, so their nodes are ranked as well.
func (pl *Plugin) PreScore(_ context.Context, state fwk.CycleState, pod *corev1.Pod, _ []fwk.NodeInfo) *fwk.Status {
	if cycle.Of(state) != nil {
		return nil
	}
	if plain := pl.plain(state, pod); plain != nil {
		state.Write(cycle.PlainKey, plain)
		return nil
	}
	return fwk.NewStatus(fwk.Skip)
}

// plain returns the state of a pod that asks for no GPU memory; nil if its nodes are not ranked. One that asks for nothing at all
// takes nothing from others.
func (pl *Plugin) plain(state fwk.CycleState, pod *corev1.Pod) *cycle.State {
	needs := cycle.NeedsOf(pod)
	if pl.mix == nil || needs == (alloc.Host{}) {
		return nil
	}
	viewer, err := pl.viewer()
	if err != nil {
		return nil // such a pod never needed one
	}
	if viewer.Mix = pl.mix.For(gpustate.Ranked{Needs: needs}); viewer.Mix == nil {
		return nil
	}
	return &cycle.State{Pod: &cycle.Pod{
		UID: pod.UID, Priority: priorityOf(pod), Request: &gpustate.Request{}, Needs: needs, Viewer: viewer, Strategy: pl.args.Strategy,
		Group: state.IsPodGroupSchedulingCycle(),
	}}
}

// Score says how good the best allocation on the node is, whatever the other nodes are: a score that depended on them could not be
// reused for the next pod that is alike. It is 0 to 100, or by a mix any number, which NormalizeScore makes a rank of.
func (pl *Plugin) Score(_ context.Context, state fwk.CycleState, _ *corev1.Pod, ni fwk.NodeInfo) (int64, *fwk.Status) {
	s := cycle.Ranked(state)
	if s == nil {
		return 0, nil
	}
	if s.Viewer.Mix != nil {
		view := s.View(ni)
		return s.Rank(&view), nil
	}
	if score, ok := s.Scores.Load(ni.Node()); ok {
		return s.Raised(ni, score.(int64)), nil
	}
	view := s.View(ni)
	return s.Raised(ni, s.Fit(&view).Score), nil // 0 is also of a node that was filled meanwhile
}

// ScoreExtensions returns what ranks nodes by the strategy Fragmentation; nil by the others, whose scores are absolute.
func (pl *Plugin) ScoreExtensions() fwk.ScoreExtensions {
	if pl.mix != nil {
		return ranking{pl.world}
	}
	return nil
}
