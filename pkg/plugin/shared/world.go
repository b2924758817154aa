// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package shared is what all rooms of the plugin work with: what the framework and the informers know, the tracker of what
// is free, the clock, and the one way to tell people.
package shared

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/history"
	"github.com/berth-dev/berth/pkg/plugin/timers"
)

// World is one for each plugin.
type World struct {
	Args    *config.Args
	Handle  fwk.Handle
	Clock   clock.WithDelayedExecution
	Tracker *gpustate.Tracker
	Nodes   corelisters.NodeLister
	Pods    corelisters.PodLister
	Timers  *timers.Timers
	History *history.Log
}

// Exists says whether the API still has a pod, as far as the informer knows.
func (w *World) Exists(pod *corev1.Pod) bool {
	got, err := w.Pods.Pods(pod.Namespace).Get(pod.Name)
	return err == nil && got.UID == pod.UID
}

// BookedFor returns what is booked for a pod, nil if nothing is.
func (w *World) BookedFor(pod *corev1.Pod) []alloc.DeviceShare {
	if e := w.Tracker.Ledger.Get(pod.UID); e != nil && e.Allocation != nil {
		return e.Allocation.Devices
	}
	return nil
}

// IsOurs says whether a pod is one of this scheduler.
func (w *World) IsOurs(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == w.Handle.ProfileName()
}

// NodeInfo returns a node of the cycle's snapshot.
func (w *World) NodeInfo(name string) (fwk.NodeInfo, error) {
	ni, err := w.Handle.SnapshotSharedLister().NodeInfos().Get(name)
	if err != nil {
		return nil, fmt.Errorf("node %s of the snapshot: %w", name, err)
	}
	return ni, nil
}

// NodeUID returns the UID of a node; false if the API has none of that name, as far as the informer knows.
func (w *World) NodeUID(name string) (types.UID, bool) {
	node, err := w.Nodes.Get(name)
	if err != nil {
		return "", false
	}
	return node.UID, true
}

// Event writes an Event on an object.
func (w *World) Event(on, related runtime.Object, eventType, reason, action, note string) {
	w.Handle.EventRecorder().Eventf(on, related, eventType, reason, action, "%s", eventnote.Fit(note))
}
