// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// probeName is the name of a plugin of the simulator's own, which decides nothing.
const probeName = "BerthSimulator"

// probe tells how far the cycle of a pod has come. It signs no pods, so that the framework looks at all nodes for each of
// them: what it remembers for the next pod that is alike it forgets after half a second of real time.
type probe struct{ s *Simulator }

var (
	_ fwk.EnqueueExtensions = probe{}
	_ fwk.PreFilterPlugin   = probe{}
	_ fwk.ReservePlugin     = probe{}
	_ fwk.PostBindPlugin    = probe{}
)

func (probe) Name() string { return probeName }

// EventsToRegister returns none: it rejects nobody. Without it, the framework would take it to wait for all events.
func (probe) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) { return nil, nil }

// PreFilter keeps the state of the cycle, for whoever explains it.
func (p probe) PreFilter(_ context.Context, state fwk.CycleState, _ *corev1.Pod, _ []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	p.s.cycle.state = state
	return nil, fwk.NewStatus(fwk.Skip)
}

func (probe) PreFilterExtensions() fwk.PreFilterExtensions { return nil }

// Reserve notes that a place was chosen: a binding cycle follows, in a goroutine, or a failure.
func (p probe) Reserve(_ context.Context, _ fwk.CycleState, pod *corev1.Pod, _ string) *fwk.Status {
	p.s.cycle.reserved = true
	p.s.explain(pod, nil)
	return nil
}

func (probe) Unreserve(context.Context, fwk.CycleState, *corev1.Pod, string) {}

// PostBind ends a cycle that went well.
func (p probe) PostBind(context.Context, fwk.CycleState, *corev1.Pod, string) { p.s.cycle.end() }
