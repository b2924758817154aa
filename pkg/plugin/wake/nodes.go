// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// canHandOff says whether a node could tell a waiting pod its GPUs, by what is known now.
func (w *Waker) canHandOff(p *parked.Pod, node *corev1.Node) bool {
	report, _ := w.Tracker.Store.Report(node.Name, 0)
	if report == nil {
		return false
	}
	h, reason := w.Requests.HandOff(p.Pod, p.Request)
	if reason == "" {
		_, reason = h.FormOn(node, report)
	}
	return reason == ""
}

// ClassSeen retries the waiting pods that name the class.
func (w *Waker) ClassSeen(class *nodev1.RuntimeClass) {
	w.Activate(slices.DeleteFunc(w.Parked.All(), func(p *parked.Pod) bool {
		name := p.Spec.RuntimeClassName
		return name == nil || *name != class.Name
	}))
}

// CacheDelay is how long the scheduler's own handler of an event is given to bring it into its cache.
const CacheDelay = time.Second

// NodeSeen retries the waiting pods that other runtime handlers of a node, or GPU sharing that is ready now, help: now, and once more when the scheduler's
// own cache, whose nodes Filter is handed, has surely heard of it too.
func (w *Waker) NodeSeen(old, node *corev1.Node) {
	w.cordonSeen(old, node)
	if sameHandlers(old, node) && gpustate.GPUSharingStatus(old) == gpustate.GPUSharingStatus(node) {
		return
	}
	name := node.Name
	w.NodeReshaped(name)
	w.Timers.At("handlers/"+name, w.Clock.Now().Add(CacheDelay), func() { w.NodeReshaped(name) })
}

func sameHandlers(a, b *corev1.Node) bool {
	return slices.EqualFunc(a.Status.RuntimeHandlers, b.Status.RuntimeHandlers,
		func(a, b corev1.NodeRuntimeHandler) bool { return a.Name == b.Name })
}

// cordonDelay is how long after a cordon was seen those that wait on the node are woken: the scheduler's own cache learns
// of it by a handler of its own.
const cordonDelay = 100 * time.Millisecond

// cordonSeen wakes those that wait on a node which was cordoned. The framework has no event for that; the taint that tells
// of it, if anybody sets one, comes later.
func (w *Waker) cordonSeen(before, node *corev1.Node) {
	if before.Spec.Unschedulable || !node.Spec.Unschedulable || len(w.Tracker.Ledger.ClaimsOn(node.Name)) == 0 {
		return
	}
	w.Timers.At("cordon/"+node.Name, w.Clock.Now().Add(cordonDelay), func() {
		var waiting []*parked.Pod
		for _, e := range w.Tracker.Ledger.ClaimsOn(node.Name) {
			if p := w.Parked.Get(e.UID); p != nil {
				waiting = append(waiting, p)
			}
		}
		w.Activate(waiting)
	})
}
