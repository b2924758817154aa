// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/config"
)

// Outcome is what became of a pod.
type Outcome struct {
	// Pod is the pod as it was in the end; nil if it is gone.
	Pod *corev1.Pod
	// Allocation is what it was given; nil if it was given no GPU memory.
	Allocation *gpustate.Allocation
	// After is how long after the snapshot it was bound.
	After time.Duration
	// Victims are the pods that were evicted for it, in the order in which they were.
	Victims []*corev1.Pod
	// Pending says why it is on no node: the message of its PodScheduled condition, or why it is kept out of the queue.
	Pending string
	// Events are what its owner would have been told.
	Events []Event
}

// Pod returns a pod as it is now; nil if there is none.
func (s *Simulator) Pod(namespace, name string) *corev1.Pod {
	pod, ok := find[*corev1.Pod](s.world, namespace, name)
	if !ok {
		return nil
	}
	return pod
}

// Notes say what the simulation lacks.
func (s *Simulator) Notes() []string { return s.notes }

// Arguments returns the arguments of the plugin that the simulation goes by.
func (s *Simulator) Arguments() config.Args { return s.plugin.Arguments() }

// IsOurs says whether a pod is one that this scheduler places.
func (s *Simulator) IsOurs(pod *corev1.Pod) bool {
	return s.sched.Profiles.HandlesSchedulerName(pod.Spec.SchedulerName)
}

// EvictedBy returns the pod that another one was evicted for; nil if it was evicted for none.
func (s *Simulator) EvictedBy(namespace, name string) *corev1.Pod {
	return s.evictedBy[types.NamespacedName{Namespace: namespace, Name: name}]
}

// Outcome returns what became of a pod that the simulator was given, or that it created.
func (s *Simulator) Outcome(namespace, name string) (Outcome, error) {
	pod := s.Pod(namespace, name)
	if pod == nil {
		return Outcome{}, nil
	}
	o := Outcome{Pod: pod, Events: s.events.of[pod.UID]}
	if h := s.history[pod.UID]; h != nil {
		o.Victims = h.victims
		if !h.boundAt.IsZero() {
			o.After = h.boundAt.Sub(s.start)
		}
	}
	if pod.Spec.NodeName == "" {
		o.Pending = s.whyPending(pod)
		return o, nil
	}
	var err error
	o.Allocation, err = gpustate.BookingOf(pod)
	return o, err
}

// whyPending returns why a pod is on no node.
func (s *Simulator) whyPending(pod *corev1.Pod) string {
	profile, ok := s.sched.Profiles[pod.Spec.SchedulerName]
	if !ok {
		return "it is not a pod of this scheduler, but of " + pod.Spec.SchedulerName
	}
	for _, gate := range profile.PreEnqueuePlugins() {
		if status := gate.PreEnqueue(s.ctx, pod); !status.IsSuccess() {
			return status.Message()
		}
	}
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Message != "" && s.hasHistory(pod.UID) {
			return c.Message
		}
	}
	return "it was not tried"
}

func (s *Simulator) hasHistory(uid types.UID) bool {
	return s.history[uid] != nil && s.history[uid].tries > 0
}
