// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package verdicts

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// Node is what a pod sees of a node, for people.
type Node struct {
	Node string
	// Reason is why nothing can be placed on the node, whatever is free; empty if something could.
	Reason alloc.Reason
	// Options judges what the pod asks for, one option after the other.
	Options []alloc.OptionVerdict
	// Holders are who holds memory, by device.
	Holders map[string][]Holder
}

// Holder is who holds memory of a device.
type Holder struct {
	// UID, Namespace and Name are the pod's; empty for processes of no known pod.
	UID             types.UID
	Namespace, Name string
	Memory          alloc.Bytes
	Priority        int32
	// Leaving says that the pod is gone, or about to be, and its memory on its way back. Claimed says that it is not there
	// yet: the memory is kept for it.
	Leaving, Claimed bool
	// Idle is for how long it has been measured idle, and IdleAfter after how long of it a pod of its own priority may evict
	// it; 0 = it is not idle, or never may.
	Idle, IdleAfter time.Duration
	// ProtectedUntil is when its min-runtime is over; the zero time if it has none.
	ProtectedUntil time.Time
}

// All returns what the pod of a cycle sees of each node, by name; nil if it asks for no GPU memory, or its cycle ended
// before nodes were looked at.
func (r Reader) All(state fwk.CycleState) []Node {
	s := cycle.Of(state)
	if s == nil {
		return nil
	}
	nodes, err := r.Handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return nil
	}
	verdicts := make([]Node, 0, len(nodes))
	for _, ni := range nodes {
		verdicts = append(verdicts, r.verdictOn(s, ni))
	}
	slices.SortFunc(verdicts, func(a, b Node) int { return strings.Compare(a.Node, b.Node) })
	return verdicts
}

// Options returns the shares of each option of the pod of a cycle.
func Options(state fwk.CycleState) (shares [][]alloc.Bytes) {
	if s := cycle.Of(state); s != nil {
		for i := range s.Request.Options() {
			shares = append(shares, s.Request.Options()[i].Shares)
		}
	}
	return shares
}

func (r Reader) verdictOn(s *cycle.State, ni fwk.NodeInfo) Node {
	view := s.Explained(ni)
	v := Node{Node: ni.Node().Name, Reason: view.Reason, Holders: map[string][]Holder{}}
	if view.Reason == "" {
		if _, reason := s.FormOn(ni); reason != "" {
			v.Reason = reason
		} else if lacks, _ := s.Lacks(ni); lacks {
			v.Reason = gpustate.ReasonResourceSum
		}
		v.Options = alloc.Explain(&view.Node, s.Request.On(&view.Node))
	}
	going := sets.New[types.UID]() // when the cycle began
	for _, pi := range ni.GetPods() {
		if pod := pi.GetPod(); pod.DeletionTimestamp != nil {
			going.Insert(pod.UID)
		}
	}
	for i := range view.Charges {
		c := &view.Charges[i]
		h := Holder{
			UID: c.UID, Namespace: c.Namespace, Name: c.Name,
			Leaving: c.State == gpustate.Draining || going.Has(c.UID), Claimed: c.State == gpustate.Claimed,
		}
		r.describeHolder(&h, view.Report, s.Viewer.Snapshot.Now())
		for d := range view.Devices {
			if !c.Charged[d].IsZero() {
				h.Memory = c.Charged[d]
				v.Holders[view.Devices[d].UUID] = append(v.Holders[view.Devices[d].UUID], h)
			}
		}
	}
	for d := range view.Foreign {
		if uuid := view.Devices[d].UUID; !view.Foreign[d].IsZero() {
			v.Holders[uuid] = append(v.Holders[uuid], Holder{Memory: view.Foreign[d]})
		}
	}
	return v
}

// describeHolder adds on what terms a pod holds its memory.
func (r Reader) describeHolder(h *Holder, report *gpustate.Report, now time.Time) {
	e := r.Tracker.Ledger.Get(h.UID)
	if e == nil {
		return
	}
	h.Priority, h.IdleAfter = e.Priority, e.Terms.IdleAfter
	h.ProtectedUntil = e.ProtectedUntil(r.Args.LoadTimeout.Duration, r.Args.MaxMinRuntime.Duration)
	if since, idle := report.IdleSince(h.UID); idle {
		h.Idle = now.Sub(since)
	}
}
