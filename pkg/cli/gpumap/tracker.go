// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// NewTracker returns what the scheduler knows of a cluster, at the time when the objects were read.
func NewTracker(o *Objects, s Settings) *gpustate.Tracker {
	policy := gpustate.Policy{
		StaleAfter: s.StaleAfter.Duration, LoadTimeout: s.LoadTimeout.Duration, GPUResources: s.GPUResources,
	}
	if o.LeasesUnknown {
		policy.StaleAfter = 0
	}
	tracker := gpustate.NewTracker(alloc.BytesOfInt64(s.Headroom.Value()), policy, stoppedClock(o.Time))
	tracker.DRA = gpustate.NewDRA(s.DRADrivers)
	for i := range o.Slices {
		tracker.DRA.SliceSeen(&o.Slices[i])
	}
	for i := range o.Claims {
		tracker.DRA.ClaimSeen(&o.Claims[i])
	}
	for i := range o.GPUNodes {
		tracker.ReportSeen(&o.GPUNodes[i], false)
	}
	for node := range o.Unreadable {
		tracker.ReportUnreadable(node)
	}
	for i := range o.Leases {
		if l := &o.Leases[i]; l.Spec.RenewTime != nil {
			tracker.LeaseSeen(l.Name, renewedAt(l, o.Time), false)
		}
	}
	for i := range o.Pods {
		if pod := &o.Pods[i]; isOnNode(pod) {
			tracker.PodSeen(pod)
		}
	}
	return tracker
}

// renewedAt is when a Lease was renewed. An agent whose clock is ahead is heard of now.
func renewedAt(l *coordinationv1.Lease, now time.Time) time.Time {
	if l.Spec.RenewTime.After(now) {
		return now
	}
	return l.Spec.RenewTime.Time
}

func isOnNode(pod *corev1.Pod) bool { return pod.Spec.NodeName != "" && !gpustate.HasEnded(pod) }

// stoppedClock is always at one moment.
type stoppedClock time.Time

func (c stoppedClock) Now() time.Time                  { return time.Time(c) }
func (c stoppedClock) Since(t time.Time) time.Duration { return time.Time(c).Sub(t) }
