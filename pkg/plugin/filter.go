// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/verdicts"
)

// Filter says whether any option of the pod fits on the node that it is handed, and its kubelet would take the pod.
func (pl *Plugin) Filter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, ni fwk.NodeInfo) *fwk.Status {
	s := cycle.Of(state)
	if s == nil {
		return nil
	}
	if _, reason := s.FormOn(ni); reason != "" {
		return rejected(fwk.UnschedulableAndUnresolvable, reason)
	}
	view := s.View(ni)
	f := s.Fit(&view)
	if f.Fits {
		if lacks, always := s.Lacks(ni); always {
			return rejected(fwk.UnschedulableAndUnresolvable, gpustate.ReasonResourceSum)
		} else if lacks {
			return rejected(fwk.Unschedulable, gpustate.ReasonResourceSum)
		}
		if !s.Loaded { // else it is a try, under assumptions
			s.Scores.Store(ni.Node(), f.Score)
		}
		return nil
	}
	code, reason := verdicts.Why(s, ni, &view, f.Why)
	if logger := klog.FromContext(ctx).V(5); logger.Enabled() {
		logger.Info("Does not fit", "pod", klog.KObj(pod), "node", klog.KObj(ni.Node()), "reason", reason,
			"verdicts", alloc.Explain(&view.Node, s.Request.On(&view.Node)))
	}
	return rejected(code, reason)
}
