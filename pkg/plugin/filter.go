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
)

// Filter says whether any option of the pod fits on the node that it is handed.
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
		if !s.Loaded { // else it is a try, under assumptions
			s.Scores.Store(ni.Node(), f.Score)
		}
		return nil
	}
	code, reason := pl.verdict(s, ni, &view, f.Why)
	if logger := klog.FromContext(ctx).V(5); logger.Enabled() {
		logger.Info("Does not fit", "pod", klog.KObj(pod), "node", klog.KObj(ni.Node()), "reason", reason,
			"verdicts", alloc.Explain(&view.Node, s.Request.On(&view.Node)))
	}
	return rejected(code, reason)
}

// verdict says why no option fits, and whether evicting or waiting could help: UnschedulableAndUnresolvable spares
// the node the search for victims.
func (pl *Plugin) verdict(s *cycle.State, ni fwk.NodeInfo, view *gpustate.View, why uint8) (fwk.Code, alloc.Reason) {
	switch view.Reason {
	case "":
	case gpustate.ReasonStaleReport:
		return fwk.Unschedulable, view.Reason
	default:
		return fwk.UnschedulableAndUnresolvable, view.Reason
	}
	switch why {
	case cycle.Instances:
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonInstances
	case cycle.TooSmall:
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonTooSmall
	case cycle.ResourceClaimed:
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonResourceClaimedDevices
	case cycle.Contested:
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonContestedDevices
	case cycle.Unhealthy:
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonUnhealthyDevices
	}
	if !s.Loaded && hasLoading(&view.Node) {
		loaded := *s
		loaded.Loaded = true
		if v := loaded.View(ni); alloc.Fits(&v.Node, s.Request.On(&v.Node)) {
			return fwk.Unschedulable, gpustate.ReasonLoading
		}
	}
	return fwk.Unschedulable, gpustate.ReasonInsufficientMemory
}

func hasLoading(n *alloc.Node) bool {
	for i := range n.Devices {
		if n.Devices[i].Blocked == alloc.ReasonLoading {
			return true
		}
	}
	return false
}
