// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"strings"

	corev1 "k8s.io/api/core/v1"
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

// bookedFor returns what is booked for a pod, nil if nothing is.
func (pl *Plugin) bookedFor(pod *corev1.Pod) []alloc.DeviceShare {
	if e := pl.tracker.Ledger.Get(pod.UID); e != nil && e.Allocation != nil {
		return e.Allocation.Devices
	}
	return nil
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
