// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/verdicts"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// PreFilter reads what the pod asks for and pins one snapshot of the reports for the cycle. It skips pods that ask
// for no GPU memory.
func (pl *Plugin) PreFilter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	if pod.Spec.NodeName != "" {
		// In a cycle for a resize that was deferred: the framework makes room on its node. Its GPU memory is booked.
		return nil, fwk.NewStatus(fwk.Skip)
	}
	resolved := pl.requests.Of(pod)
	if resolved.Unresolved != nil { // it was queued while profiles were being read, see PreEnqueue
		pl.recovery.Await(ctx)
		pl.wake.Park(parked.Pod{Pod: pod, Profile: resolved.Profile})
		resolved = pl.requests.Of(pod)
	}
	switch {
	case resolved.Err != nil:
		klog.FromContext(ctx).V(2).Info("Invalid request", "pod", klog.KObj(pod), "err", resolved.Err)
		return nil, fwk.NewStatus(fwk.UnschedulableAndUnresolvable, string(gpustate.ReasonInvalidRequest)+": "+resolved.Err.Error())
	case resolved.Unresolved != nil:
		return nil, rejected(fwk.UnschedulableAndUnresolvable, gpustate.ReasonModelUnknown)
	case resolved.Request == nil:
		return nil, fwk.NewStatus(fwk.Skip)
	case !gpustate.HasReference(pod):
		return nil, rejected(fwk.UnschedulableAndUnresolvable, gpustate.ReasonNoReference)
	}
	pl.announce(pod, resolved)
	// Listed before the recovery is looked at, so that one that is done in between retries the pod.
	pl.wake.Park(parked.Pod{Pod: pod, Request: resolved.Request, Shape: resolved.Shape, Profile: resolved.Profile})
	pl.claims.Tried(pod.UID)
	pl.recovery.Await(ctx)
	if why := pl.recovery.Pending(); why != "" {
		return nil, fwk.NewStatus(fwk.UnschedulableAndUnresolvable, why)
	}
	if why := pl.faults.PoliciesMissing(); why != "" {
		return nil, fwk.NewStatus(fwk.UnschedulableAndUnresolvable, why)
	}
	if claimsGPU, err := pl.claimsGPU(ctx, pod); err != nil {
		return nil, fwk.AsStatus(err)
	} else if claimsGPU {
		pl.wake.ListClaimant(pod)
		return nil, rejected(fwk.UnschedulableAndUnresolvable, gpustate.ReasonClaimsGPU)
	}
	// Listed as waiting before the class is looked up, so that one that comes in between is not missed.
	handOff, reason := pl.requests.HandOff(pod, resolved.Request)
	if reason != "" {
		return nil, rejected(fwk.UnschedulableAndUnresolvable, reason)
	}
	if e := pl.tracker.Ledger.Get(pod.UID); e != nil && e.State == gpustate.Unknown {
		return nil, rejected(fwk.UnschedulableAndUnresolvable, gpustate.ReasonBindUnknown)
	}
	viewer, err := pl.viewer()
	if err != nil {
		return nil, fwk.AsStatus(err)
	}
	shared := &cycle.Pod{
		UID: pod.UID, Priority: priorityOf(pod), Request: resolved.Request, HandOff: handOff, Shape: resolved.Shape,
		Asked:  cycle.AskedOf(pod),
		Viewer: viewer, Strategy: pl.args.Strategy, Warm: pl.warmFor(pod, resolved),
		Group: state.IsPodGroupSchedulingCycle(),
	}
	if pl.mix != nil {
		pl.mix.Tried(pod)
		shared.Needs = cycle.NeedsOf(pod)
		viewer.Mix = pl.mix.For(gpustate.Ranked{Shape: shared.Shape, Needs: shared.Needs})
	}
	if !verdicts.AnyCouldEverFit(shared, nodes) {
		return nil, fwk.NewStatus(fwk.UnschedulableAndUnresolvable, string(gpustate.ReasonNothingEverFits)+": "+verdicts.Largest(shared, nodes))
	}
	pl.follow.ClaimForUntried(shared.Viewer)
	state.Write(cycle.Key, &cycle.State{Pod: shared})
	return nil, nil
}

// announce tells the pod's owner, once, what is noteworthy about how the request was read.
func (pl *Plugin) announce(pod *corev1.Pod, r *requests.Resolved) {
	r.Announce(func(n gpustate.Note) {
		eventType := corev1.EventTypeNormal
		if n.Warning {
			eventType = corev1.EventTypeWarning
		}
		pl.world.Event(pod, nil, eventType, n.Reason, words.ActionReadRequest, n.Message)
	})
}

// PreFilterExtensions returns the plugin itself: see AddPod and RemovePod.
func (pl *Plugin) PreFilterExtensions() fwk.PreFilterExtensions { return pl }

// AddPod takes back what RemovePod assumed: a victim is reprieved, or a nominated pod is added. Its memory is
// counted from the NodeInfo, or from what it claims.
func (pl *Plugin) AddPod(_ context.Context, state fwk.CycleState, _ *corev1.Pod, added fwk.PodInfo, _ fwk.NodeInfo) *fwk.Status {
	if s := cycle.Of(state); s != nil {
		s.Gone.Delete(added.GetPod().UID)
	}
	return nil
}

// RemovePod assumes that a victim is gone with the memory that its processes hold: NVML still measures them in a dry
// run, and charging that memory to nobody would make every try fail.
func (pl *Plugin) RemovePod(_ context.Context, state fwk.CycleState, _ *corev1.Pod, removed fwk.PodInfo, _ fwk.NodeInfo) *fwk.Status {
	if s := cycle.Of(state); s != nil {
		s.AssumeGone(removed.GetPod().UID)
	}
	return nil
}

func priorityOf(pod *corev1.Pod) int32 { return corev1helpers.PodPriority(pod) }
