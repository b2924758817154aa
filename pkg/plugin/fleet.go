// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-dev/berth/pkg/fleet"
	"github.com/berth-dev/berth/pkg/fleet/export"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// fleetStatus returns what is known of the fleet each time that it is called, for metrics.
func (pl *Plugin) fleetStatus() export.Source {
	var mu sync.Mutex
	var orphans fleet.Orphans
	return func() export.Status {
		mu.Lock()
		defer mu.Unlock()
		s := export.Status{Leads: pl.leader.Leading()}
		if !s.Leads || !pl.recovery.Done() {
			return s
		}
		s.Places = pl.faults.PoliciesMissing() == ""
		cluster, err := pl.fleetCluster()
		if err != nil {
			return s
		}
		cluster.Orphans = orphans
		s.Numbers = fleet.Measure(cluster)
		orphans = s.Numbers.Orphans
		return s
	}
}

func (pl *Plugin) fleetCluster() (*fleet.Cluster, error) {
	nodes, err := pl.world.Nodes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	pods, err := pl.world.Pods.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	c := &fleet.Cluster{
		Viewer: pl.tracker.Viewer(), Nodes: nodes, Pods: pods,
		PerNode: pl.args.PerNodeMetrics, MemoryReturnTimeout: pl.args.MemoryReturnTimeout.Duration,
	}
	for _, pod := range pods {
		if w, waits := pl.waiting(pod); waits {
			c.Waiting = append(c.Waiting, w)
		}
	}
	return c, nil
}

// waiting says whether a pod waits for GPU memory, and for what.
func (pl *Plugin) waiting(pod *corev1.Pod) (w fleet.Waiting, waits bool) {
	if pod.Spec.NodeName != "" || pod.Spec.SchedulerName != pl.handle.ProfileName() || pod.DeletionTimestamp != nil || gpustate.HasEnded(pod) {
		return w, false
	}
	resolved := pl.requests.Of(pod)
	if resolved.IsPlain() {
		return w, false
	}
	w.Created = pod.CreationTimestamp.Time
	if resolved.Request != nil {
		shares := resolved.Request.Options()[0].Shares
		w.Devices, w.Share = len(shares), shares[len(shares)-1]
	}
	booked := pl.tracker.Ledger.Get(pod.UID)
	switch {
	case resolved.Err != nil:
		w.Reason = fleet.InvalidRequest
	case resolved.Unresolved != nil:
		w.Reason = fleet.ModelUnknown
	case booked == nil:
		w.Reason = fleet.ConditionOf(pod)
	case booked.State == gpustate.Claimed:
		w.Reason = fleet.MemoryReturning
	default:
		w.Reason = fleet.Binding
	}
	return w, true
}
