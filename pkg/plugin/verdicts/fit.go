// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package verdicts

import (
	"slices"

	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// Why says why no option fits, and whether evicting or waiting could help: UnschedulableAndUnresolvable spares
// the node the search for victims.
func Why(s *cycle.State, ni fwk.NodeInfo, view *gpustate.View, why uint8) (fwk.Code, alloc.Reason) {
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
	case cycle.Cordoned:
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonCordonedDevices
	case cycle.Unhealthy:
		return fwk.UnschedulableAndUnresolvable, gpustate.ReasonUnhealthyDevices
	}
	try := *s
	fits := func() bool {
		v := try.View(ni)
		return alloc.Fits(&v.Node, s.Request.On(&v.Node))
	}
	if !s.Loaded && isBlocked(&view.Node, alloc.ReasonLoading) {
		if try.Loaded = true; fits() {
			return fwk.Unschedulable, gpustate.ReasonLoading
		}
	}
	if isBlocked(&view.Node, alloc.ReasonSameWorkload) {
		if try.Together = true; fits() {
			return fwk.Unschedulable, gpustate.ReasonSameWorkload
		}
	}
	if s.Request.Company.Sharing == berthv1alpha1.ShareNone && alloc.Fits(&view.Node, s.Request.On(&view.Node).Sharing()) {
		return fwk.Unschedulable, gpustate.ReasonNotAlone
	}
	return fwk.Unschedulable, gpustate.ReasonInsufficientMemory
}

// isBlocked says whether any device is blocked for a reason.
func isBlocked(n *alloc.Node, reason alloc.Reason) bool {
	return slices.ContainsFunc(n.Devices, func(d alloc.Device) bool { return d.Blocked == reason })
}

// AnyCouldEverFit fails fast for a pod that no node could hold: only when every node has a fresh report, since a
// node without one may turn out to be large enough.
func AnyCouldEverFit(s *cycle.Pod, nodes []fwk.NodeInfo) bool {
	if len(nodes) == 0 {
		return true
	}
	for _, ni := range nodes {
		report, fresh := s.Viewer.Snapshot.Report(ni.Node().Name, s.Viewer.Policy.StaleAfter)
		if report == nil || !fresh {
			return true
		}
		n := alloc.Node{Name: report.Node, Devices: report.Devices}
		if alloc.CanEverFit(&n, s.Request.On(&n)) {
			return true
		}
	}
	return false
}

// Largest says, for people, what the largest share is that could be held, for each count of devices asked for.
func Largest(s *cycle.Pod, nodes []fwk.NodeInfo) string {
	msg := ""
	for i := range s.Request.Options() {
		o := &s.Request.Options()[i]
		var most alloc.Bytes
		needs := o.Shares[0] // or less, on GPUs that are known
		instances := false
		for _, ni := range nodes {
			if report, _ := s.Viewer.Snapshot.Report(ni.Node().Name, 0); report != nil {
				n := alloc.Node{Name: report.Node, Devices: report.Devices}
				most = most.Max(alloc.Largest(&n, len(o.Shares), s.Request.MixedModels()))
				for _, there := range s.Request.On(&n).Options() {
					if len(there.Shares) == len(o.Shares) {
						needs = needs.Min(there.Shares[0])
					}
				}
				instances = instances || slices.ContainsFunc(n.Devices, func(d alloc.Device) bool { return d.Parent != "" })
			}
		}
		if msg != "" {
			msg += "; "
		}
		if most.IsZero() {
			msg += words.Plural(len(o.Shares), "GPU") + " of one node: no node has as many"
			if instances {
				msg += " (" + string(alloc.ReasonInstances) + ")"
			}
			continue
		}
		msg += words.Plural(len(o.Shares), "GPU") + ": needs " + needs.String() + " on one, the largest that could fit is " + most.String()
	}
	return msg
}
