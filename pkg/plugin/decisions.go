// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/history"
)

// after says what a pod that was bound had waited for.
func after(claim *gpustate.Entry) string {
	switch {
	case claim == nil:
		return history.AfterRoom
	case len(claim.Claim.Victims) > 0:
		return history.AfterEviction
	}
	return history.AfterWait
}

// whyNotBound sorts what Bind failed by.
func (pl *Plugin) whyNotBound(pod *corev1.Pod, err error) string {
	e := pl.tracker.Ledger.Get(pod.UID)
	switch {
	case e != nil && e.State == gpustate.Unknown:
		return history.BindUnknown
	case isRefusal(err):
		return history.BindRefused
	}
	return history.BindNotSent
}

// logDecision writes the structured record of a placement.
func (pl *Plugin) logDecision(ctx context.Context, pod *corev1.Pod, r *gpustate.Request, options []alloc.Allocation, view *gpustate.View) {
	pl.world.History.Booked(ctx, pod, &history.Booking{
		Node: view.Name, Devices: options[0].Devices, TensorParallelSize: options[0].TensorParallelSize,
		Viable: len(options), Options: len(r.Options()),
	})
	if v := klog.FromContext(ctx).V(5); v.Enabled() {
		v.Info("Verdicts", "pod", klog.KObj(pod), "node", view.Name, "verdicts", alloc.Explain(&view.Node, r.On(&view.Node)))
	}
}

// mainReason returns the reason that keeps a pod from the nodes that it is nearest to: of those that evictions or time could
// help, else of those with a report, the one of most nodes. It is a constant of Berth's, or the name of another plugin; the
// message is what one of these nodes was refused by.
func (pl *Plugin) mainReason(m fwk.NodeToStatusReader) (reason, message string) {
	nodes, err := pl.handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return "", err.Error()
	}
	type refusal struct {
		reason string
		code   fwk.Code
	}
	messages := map[refusal]string{}
	nodesOf := map[refusal]int{}
	for _, ni := range nodes {
		status := m.Get(ni.Node().Name)
		r := refusal{reasonOf(status), status.Code()}
		if nodesOf[r]++; nodesOf[r] == 1 {
			messages[r] = status.Message()
		}
	}
	rank := func(r refusal) int {
		switch {
		case r.code == fwk.Unschedulable:
			return 2
		case r.reason != string(gpustate.ReasonNoReport):
			return 1
		}
		return 0
	}
	var best refusal
	for r, n := range nodesOf {
		if best.reason == "" || cmp.Or(rank(r)-rank(best), n-nodesOf[best], strings.Compare(best.reason, r.reason)) > 0 {
			best = r
		}
	}
	return best.reason, messages[best]
}

// reasonOf returns the constant of a status of Berth's, without what stands behind it, and the name of another plugin for
// one of its own: what it says need not be bounded.
func reasonOf(status *fwk.Status) string {
	if status.Plugin() != Name {
		return status.Plugin()
	}
	reason, _, _ := strings.Cut(status.Message(), ": ")
	return reason
}
