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
	"github.com/berth-dev/berth/pkg/plugin/words"
)

const reservedKey fwk.StateKey = "Reserve" + Name

// reserved is what Reserve booked, for Bind.
type reserved struct {
	allocation  *gpustate.Allocation
	annotations map[string]string
	message     string
	// claim is what the pod claimed before, or nil.
	claim *gpustate.Entry
}

// Clone implements fwk.StateData; a reservation is never changed.
func (r *reserved) Clone() fwk.StateData { return r }

// Reserve plans once more, on the snapshot that the cycle pinned, and books the best allocation. It may be tentative
// and be repeated (pod groups); it is in memory only, and idempotent.
func (pl *Plugin) Reserve(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodeName string) *fwk.Status {
	s := cycle.Of(state)
	if s == nil {
		return nil
	}
	ni, err := pl.world.NodeInfo(nodeName)
	if err != nil {
		return fwk.AsStatus(err)
	}
	view := s.View(ni)
	// Filter judged this same view with nominated pods on it, so whatever refuses the pod here changed in between.
	if view.Reason != "" {
		return pl.lostReservation(ctx, pod, view.Reason)
	}
	form, reason := s.FormOn(ni)
	if reason != "" {
		return pl.lostReservation(ctx, pod, reason)
	}
	options := alloc.Plan(&view.Node, s.Request.On(&view.Node), pl.args.Strategy)
	if len(options) == 0 {
		return pl.lostReservation(ctx, pod, gpustate.ReasonInsufficientMemory)
	}
	warmth := s.WarmthOn(ni, &view)
	best, level := s.Warmest(&view, &options[0], &warmth)
	options[0] = *best
	if err := alloc.Validate(&view.Node, best.Devices); err != nil {
		return fwk.AsStatus(err)
	}
	limit, reason := s.LimitOn(ni, form)
	if reason != "" {
		return pl.lostReservation(ctx, pod, reason)
	}
	annotations, err := s.Request.Annotations(best, &view.Node, form, limit)
	if err != nil {
		return fwk.AsStatus(err)
	}
	booked := s.Request.Allocation(best, &view.Node)
	claim := pl.tracker.Ledger.ClaimOf(pod.UID)
	if err := pl.tracker.Ledger.Assume(pod, nodeName, booked); err != nil {
		return fwk.AsStatus(err)
	}
	state.Write(reservedKey, &reserved{
		allocation: booked, annotations: annotations, claim: claim,
		message: words.Decision(s.Request, options, &view.Node) + pl.tellWarm(s, &view, best, &warmth, level),
	})
	pl.wake.Unpark(pod.UID, nodeName)
	pl.logDecision(ctx, pod, s.Request, options, &view)
	return nil
}

// lostReservation refuses a pod whose place is gone since Filter.
func (pl *Plugin) lostReservation(ctx context.Context, pod *corev1.Pod, reason alloc.Reason) *fwk.Status {
	pl.world.History.Refused(ctx, pod, string(reason), "the place was gone before it was booked")
	pl.wake.AfterBackoff(pod)
	return rejected(fwk.Unschedulable, reason)
}

// Unreserve takes the booking back, unless the pod may be bound after all; Reserve may have failed before Berth's turn.
// From now on the pod has the framework's hints, and its backoff. It runs from the binding goroutine, concurrently with the
// next pod's cycle.
func (pl *Plugin) Unreserve(_ context.Context, state fwk.CycleState, pod *corev1.Pod, nodeName string) {
	if cycle.Of(state) == nil {
		return
	}
	pl.tracker.Ledger.Forget(pod.UID)
	pl.wake.ListFailed(pod)
	pl.wake.Unpark(pod.UID, "")
	pl.wake.NodeChanged(nodeName)
}
