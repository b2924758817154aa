// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// PostFilter makes room for a pod that fits nowhere. In this order: a plan that it has already is held while what it
// waits for is under way; a node where memory is on its way back is waited for; the cheapest pods are evicted. A pod
// that asks for no GPU memory goes through the default preemption.
func (pl *Plugin) PostFilter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	s := getCycleState(state)
	if s == nil {
		if r := pl.resolve(pod); r.request == nil && r.unresolved == nil && r.err == nil {
			return pl.evictor.plain.PostFilter(ctx, state, pod, m)
		}
		return framework.NewPostFilterResultWithNominatedNode(""), fwk.NewStatus(fwk.Unschedulable)
	}
	if msg, hold := pl.holdPlan(s, pod); hold {
		return nil, fwk.NewStatus(fwk.Unschedulable, msg) // a nil result keeps the nomination
	}
	if result, status := pl.waitForMemory(ctx, s, state, pod, m); result != nil {
		return result, status
	}
	return pl.evictFor(ctx, s, state, pod, m)
}

// evictFor evicts the cheapest pods that make room.
func (pl *Plugin) evictFor(ctx context.Context, s *cycleState, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	now := pl.clock.Now()
	pdbs, err := pl.evictor.evaluator.PdbLister.List(everything)
	if err != nil {
		return nil, fwk.AsStatus(err)
	}
	search := &search{
		state: s, evictIdle: pl.plans.mayEvictIdle(pod, now), budgets: newBudgets(pdbs),
		promised: map[string]bool{}, found: map[string]*foundPlan{},
	}
	for uid := range pl.plans.victimsOfOthers(pod.UID) {
		search.promised[string(uid)] = true
	}
	result, status := pl.evictor.evaluator.Preempt(context.WithValue(ctx, searchKey{}, search), state, pod, m)
	if !status.IsSuccess() {
		if status.Code() == fwk.Error {
			return result, status
		}
		if !search.eligibleAt.IsZero() {
			// No API event tells when a pod has been idle, or has run, for long enough.
			uid := pod.UID
			pl.timers.at("eligible/"+string(uid), search.eligibleAt, func() {
				if p := pl.waiting.get(uid); p != nil {
					pl.activate([]*waitingPod{p})
				}
			})
		}
		return result, fwk.NewStatus(status.Code(), pl.explain(s, pod, m)...)
	}
	node := result.NominatedNodeName
	found := search.found[node]
	if found == nil {
		return nil, fwk.AsStatus(fmt.Errorf("the evaluator chose node %q, on which no victims were found", node))
	}
	pl.plans.set(pod.UID, &plan{
		node: node, devices: found.Allocation.Devices, victims: found.victims, madeAt: now,
		deadline: now.Add(pl.args.MemoryReturnTimeout.Duration),
	})
	for _, victim := range found.idle {
		pl.plans.lostIdle(victim, now)
	}
	pl.metrics.victims.Add(float64(len(found.victims)))
	pl.metrics.freedBytes.Add(float64(found.freed.Uint64()))
	pl.armDeadline(pod.UID)
	msg := evictionMessage(found, node)
	pl.event(pod, nil, corev1.EventTypeNormal, eventEvicting, actionEvict, msg)
	return result, fwk.NewStatus(fwk.Success, msg)
}

// evictionMessage tells what is evicted, where, why this and not something else.
func evictionMessage(found *foundPlan, node string) string {
	names := make([]string, len(found.victims))
	for i, v := range found.victims {
		names[i] = v.Namespace + "/" + v.Name
	}
	msg := fmt.Sprintf("Evicting %s from node %s, which frees %s: %s is the cheapest way", strings.Join(names, ", "), node, found.freed, found.Cost)
	if next := found.runnerUp(); next != "" {
		msg += "; next on that node would have been " + next
	}
	return msg
}
