// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Filter says whether any option of the pod fits on the node that it is handed.
func (pl *Plugin) Filter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, ni fwk.NodeInfo) *fwk.Status {
	s := getCycleState(state)
	if s == nil {
		return nil
	}
	if _, reason := s.formOn(ni); reason != "" {
		return rejected(fwk.UnschedulableAndUnresolvable, reason)
	}
	view := pl.view(s, ni)
	if f := pl.fit(s, &view); f.Fits {
		if !s.dryRun {
			s.scores.Store(ni.Node(), f.Score)
		}
		return nil
	}
	code, reason := pl.verdict(s, ni, &view)
	if logger := klog.FromContext(ctx).V(5); logger.Enabled() {
		logger.Info("Does not fit", "pod", klog.KObj(pod), "node", klog.KObj(ni.Node()), "reason", reason,
			"verdicts", alloc.Explain(&view.Node, &s.request.Request))
	}
	return rejected(code, reason)
}

// verdict says why no option fits, and whether evicting or waiting could help: UnschedulableAndUnresolvable spares
// the node the search for victims.
func (pl *Plugin) verdict(s *cycleState, ni fwk.NodeInfo, view *gpustate.View) (fwk.Code, alloc.Reason) {
	switch view.Reason {
	case "":
	case gpustate.ReasonStaleReport:
		return fwk.Unschedulable, view.Reason
	default:
		return fwk.UnschedulableAndUnresolvable, view.Reason
	}
	if !alloc.CanEverFit(&view.Node, &s.request.Request) {
		if reason, _ := alloc.Unfit(&view.Node, &s.request.Request); reason == alloc.ReasonInstances {
			return fwk.UnschedulableAndUnresolvable, gpustate.ReasonInstances
		}
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonTooSmall
	}
	if !alloc.CanEverFit(usable(&view.Node), &s.request.Request) {
		if alloc.CanEverFit(usable(&view.Node, alloc.ReasonClaimed), &s.request.Request) {
			return fwk.UnschedulableAndUnresolvable, gpustate.ReasonClaimedDevices
		}
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonUnhealthyDevices
	}
	if !s.dryRun && hasLoading(&view.Node) {
		loaded := *s
		loaded.dryRun = true
		if v := pl.view(&loaded, ni); alloc.Fits(&v.Node, &s.request.Request) {
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

// usable returns the node without the devices that no eviction and no waiting pod can free, but for those that are
// blocked for one of the reasons given.
func usable(n *alloc.Node, but ...alloc.Reason) *alloc.Node {
	out := &alloc.Node{Name: n.Name, Devices: make([]alloc.Device, 0, len(n.Devices))}
	for i := range n.Devices {
		if b := n.Devices[i].Blocked; b == "" || b == alloc.ReasonLoading || slices.Contains(but, b) {
			out.Devices = append(out.Devices, n.Devices[i])
		}
	}
	return out
}
