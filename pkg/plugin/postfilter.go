// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/history"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/preempt"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// PostFilter makes room for a pod that fits nowhere. In this order: what it claims already is kept while what it waits
// for is under way; a node where memory comes back soon is waited for; the cheapest pods are evicted, once preemptionDelay is
// over; a node where memory comes back at all is waited for. A pod that asks for no GPU memory goes through the default preemption.
func (pl *Plugin) PostFilter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	s := cycle.Of(state)
	if s == nil && pl.isPlain(pod) {
		pl.wake.ListFailed(pod)
		return pl.evictor.Plain.PostFilter(ctx, state, pod, m)
	}
	pl.wake.NoteRefusals(pod, m)
	result, status := pl.makeRoom(ctx, s, state, pod, m)
	took := ""
	if claim := pl.tracker.Ledger.ClaimOf(pod.UID); claim != nil {
		took = claim.Node
	} else {
		reason, message := pl.mainReason(m)
		if msg := status.Message(); msg != "" {
			message = msg
		}
		pl.world.History.Refused(ctx, pod, reason, message)
	}
	pl.wake.PassOn(pl.parked.TakeWoken(pod.UID), took)
	return result, status
}

// isPlain says whether a pod asks for no GPU memory, or is bound: a resize that is deferred.
func (pl *Plugin) isPlain(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" || pl.requests.Of(pod).IsPlain()
}

func (pl *Plugin) makeRoom(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	if s == nil { // PreFilter, or that of another plugin, said that it can be placed nowhere
		pl.follow.Drop(pod)
		return nominate(""), fwk.NewStatus(fwk.Unschedulable)
	}
	claim, msg := pl.follow.Follow(ctx, s, state, pod)
	held := claim != nil && !claim.IsLost()
	if held && (claim.Claim.PatientUntil.IsZero() || pl.clock.Now().Before(claim.Claim.PatientUntil)) {
		// Nominated again each time: a rejected reservation, or a preemptor of higher priority, may have cleared it.
		return nominate(claim.Node), fwk.NewStatus(fwk.Unschedulable, msg)
	}
	var best *preempt.Wait
	if !held {
		var err error
		if best, err = pl.evictor.FindWait(ctx, s, state, pod, m); err != nil {
			return nil, fwk.AsStatus(err)
		}
		if best != nil && pl.evictor.IsSoon(best.Expected, pl.clock.Now()) {
			return pl.follow.Wait(ctx, s, pod, best)
		}
		if claim != nil {
			return nominate(""), fwk.NewStatus(fwk.Unschedulable, msg)
		}
	}
	if from := pl.wake.EvictsFrom(pod); !held && !from.IsZero() {
		why := append(pl.verdicts.Explain(s, pod, m), "nobody is evicted for it before "+from.UTC().Format(time.RFC3339)+" (preemptionDelay)")
		return nominate(""), fwk.NewStatus(fwk.Unschedulable, why...)
	}
	result, status, more := pl.evictFor(ctx, s, state, pod, m)
	switch {
	case !more:
		return result, status
	case held:
		return nominate(claim.Node), fwk.NewStatus(fwk.Unschedulable, msg)
	case best != nil:
		return pl.follow.Wait(ctx, s, pod, best)
	}
	return result, status
}

func nominate(node string) *fwk.PostFilterResult {
	return framework.NewPostFilterResultWithNominatedNode(node)
}

// evictFor evicts the cheapest pods that make room. It says whether there is more to do: nobody can be evicted.
func (pl *Plugin) evictFor(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (_ *fwk.PostFilterResult, _ *fwk.Status, more bool) {
	now := pl.clock.Now()
	search, err := pl.evictor.NewSearch(s, state, pod, now)
	if err != nil {
		return nil, fwk.AsStatus(err), false
	}
	chosen, result, status := pl.evictor.Preempt(ctx, search, m)
	if status.Code() == fwk.Error {
		return result, status, false
	}
	if search.RoomOn != "" {
		if p := pl.parked.Get(pod.UID); p != nil {
			pl.wake.Activate([]*parked.Pod{p}) // remembered, for it is in flight
		}
		return result, status, false
	}
	if !status.IsSuccess() {
		return result, fwk.NewStatus(status.Code(), pl.verdicts.Explain(s, pod, m)...), true
	}
	victims := chosen.Pods()
	pl.follow.Claim(pod, chosen.Name(), chosen.Allocation.Devices, gpustate.Claim{
		Victims: victims, MadeAt: now, Deadline: now.Add(pl.args.MemoryReturnTimeout.Duration),
	})
	for _, victim := range victims {
		if priorityOf(victim) == s.Priority {
			pl.claims.LostIdle(victim, now)
		}
	}
	msg := search.Message(chosen)
	pl.world.History.Evicts(ctx, pod, &history.Plan{
		Node: chosen.Name(), Devices: chosen.Allocation.Devices, Victims: victims, Frees: chosen.Freed(), Cost: chosen.Cost.String(),
		Exact: chosen.Exact, Message: msg,
	})
	pl.metrics.victims.Add(float64(len(victims)))
	pl.metrics.freedBytes.Add(float64(chosen.Freed().Uint64()))
	if !chosen.Exact {
		pl.metrics.cutShort.Inc()
	}
	pl.world.Event(pod, nil, corev1.EventTypeNormal, words.EventEvicting, words.ActionEvict, msg)
	return result, fwk.NewStatus(fwk.Success, msg), false
}

// PodGroupPostFilter evicts nobody for a group with pods that ask for GPU memory: the default preemption would choose
// victims without a look at GPUs, min-runtime or memory on its way back. Other groups go through it.
func (pl *Plugin) PodGroupPostFilter(ctx context.Context, state fwk.PodGroupCycleState, info fwk.PodGroupInfo, schedule fwk.PodGroupSchedulingFunc) (*fwk.PodGroupPostFilterResult, *fwk.Status) {
	if pl.anyAsksForMemory(info) {
		return nil, rejected(fwk.Unschedulable, gpustate.ReasonGroupEvictsNobody)
	}
	return pl.evictor.Plain.PodGroupPostFilter(ctx, state, info, schedule)
}

// anyAsksForMemory says whether a pod of a group, or of the groups below it, asks for GPU memory.
func (pl *Plugin) anyAsksForMemory(info fwk.PodGroupInfo) bool {
	return slices.ContainsFunc(info.GetUnscheduledPods(), func(pod *corev1.Pod) bool { return !pl.isPlain(pod) }) ||
		slices.ContainsFunc(info.GetChildren(), pl.anyAsksForMemory)
}
