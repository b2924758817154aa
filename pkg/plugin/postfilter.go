// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// PostFilter makes room for a pod that fits nowhere. In this order: a plan that it has already is held while what it
// waits for is under way; a node where memory is on its way back is waited for; the cheapest pods are evicted. A pod
// that asks for no GPU memory goes through the default preemption.
func (pl *Plugin) PostFilter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	s := getCycleState(state)
	if s == nil {
		if pod.Spec.NodeName != "" {
			return pl.evictor.plain.PostFilter(ctx, state, pod, m) // a deferred resize, see PreFilter
		}
		if r := pl.resolve(pod); r.request == nil && r.unresolved == nil && r.err == nil {
			return pl.evictor.plain.PostFilter(ctx, state, pod, m)
		}
		return framework.NewPostFilterResultWithNominatedNode(""), fwk.NewStatus(fwk.Unschedulable)
	}
	plan, msg := pl.holdPlan(s, pod)
	if plan != nil && !plan.lost {
		// Nominated again each time: a rejected reservation, or a preemptor of higher priority, may have cleared it.
		return framework.NewPostFilterResultWithNominatedNode(plan.node), fwk.NewStatus(fwk.Unschedulable, msg)
	}
	if result, status := pl.waitForMemory(ctx, s, state, pod, m); result != nil {
		return result, status
	}
	if plan != nil {
		return framework.NewPostFilterResultWithNominatedNode(""), fwk.NewStatus(fwk.Unschedulable, msg)
	}
	return pl.evictFor(ctx, s, state, pod, m)
}

// evictFor evicts the cheapest pods that make room.
func (pl *Plugin) evictFor(ctx context.Context, s *cycleState, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	now := pl.clock.Now()
	search, err := pl.evictor.newSearch(s, state, pod, now)
	if err != nil {
		return nil, fwk.AsStatus(err)
	}
	chosen, result, status := pl.evictor.preempt(ctx, search, m)
	if status.Code() == fwk.Error {
		return result, status
	}
	if !status.IsSuccess() {
		if !search.eligibleAt.IsZero() {
			// No API event tells when a pod has been idle, or has run, for long enough.
			pl.retryAt("eligible/", pod.UID, search.eligibleAt)
		}
		return result, fwk.NewStatus(status.Code(), pl.explain(s, pod, m)...)
	}
	victims := chosen.pods()
	pl.setPlan(pod, &plan{
		node: chosen.name(), devices: chosen.allocation.Devices, victims: victims, priority: s.priority, madeAt: now,
		deadline: now.Add(pl.args.MemoryReturnTimeout.Duration),
	})
	for _, victim := range victims {
		if corev1helpers.PodPriority(victim) == s.priority {
			pl.plans.lostIdle(victim, now)
		}
	}
	pl.metrics.victims.Add(float64(len(victims)))
	pl.metrics.freedBytes.Add(float64(chosen.freed().Uint64()))
	msg := search.message(chosen)
	pl.event(pod, nil, corev1.EventTypeNormal, eventEvicting, actionEvict, msg)
	return result, fwk.NewStatus(fwk.Success, msg)
}
