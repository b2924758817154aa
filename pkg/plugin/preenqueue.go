// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// PreEnqueue keeps a pod out of the queue while the size of its model is not known, or while its victims are being evicted. The
// controller tells the user, by Events, what a gated pod waits for; no API is called here.
func (pl *Plugin) PreEnqueue(ctx context.Context, pod *corev1.Pod) *fwk.Status {
	if status := pl.evictor.PreEnqueue(ctx, pod); !status.IsSuccess() {
		return status
	}
	if pod.Spec.NodeName != "" {
		return nil // whatever its model is, it is placed; see PreFilter
	}
	resolved := pl.requests.Of(pod)
	if resolved.Unresolved == nil {
		return nil
	}
	if !pl.recovery.HaveSynced() {
		return nil // its profile may be among those that are still being read; it is judged when it is tried
	}
	// Listed before the profile is looked at again, so that a profile that becomes ready in between is not missed.
	pl.wake.Park(parked.Pod{Pod: pod, Profile: resolved.Profile})
	if resolved = pl.requests.Of(pod); resolved.Unresolved == nil {
		return nil
	}
	return pl.gated(ctx, pod, gpustate.ReasonModelUnknown)
}

func (pl *Plugin) gated(ctx context.Context, pod *corev1.Pod, reason alloc.Reason) *fwk.Status {
	pl.world.History.Gated(ctx, pod, string(reason), "")
	return rejected(fwk.UnschedulableAndUnresolvable, reason)
}

// rejected is a status whose only reason is a constant.
func rejected(code fwk.Code, reason alloc.Reason) *fwk.Status {
	return fwk.NewStatus(code, string(reason))
}

// EventsToRegister names the framework's events that may help a pod which Berth rejected, see package wake.
func (pl *Plugin) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) {
	return pl.wake.Hints(pl.resourceClaims != nil), nil
}
