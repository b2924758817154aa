// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	plfeature "k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"
)

// evictor runs the framework's own preemption machinery: its executor deletes victims, sets their conditions and
// keeps the preemptor out of the queue meanwhile. Pods that ask for no GPU memory go through the default preemption,
// unchanged; for the others only the choice of victims is Berth's, see victims.go.
type evictor struct {
	pl        *Plugin
	plain     *defaultpreemption.DefaultPreemption
	evaluator *preemption.Evaluator
}

func newEvictor(ctx context.Context, pl *Plugin) (*evictor, error) {
	features := plfeature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate)
	// The defaults of DefaultPreemptionArgs.
	args := &schedulerconfig.DefaultPreemptionArgs{MinCandidateNodesPercentage: 10, MinCandidateNodesAbsolute: 100}
	plain, err := defaultpreemption.New(ctx, args, pl.handle, features)
	if err != nil {
		return nil, fmt.Errorf("default preemption: %w", err)
	}
	e := &evictor{pl: pl, plain: plain}
	e.evaluator = preemption.NewEvaluator(Name, pl.handle, e, plain.Executor)
	e.announceVictims()
	return e, nil
}

// preEnqueue keeps a pod out of the queue while its victims are being evicted.
func (e *evictor) preEnqueue(ctx context.Context, pod *corev1.Pod) *fwk.Status {
	return e.plain.PreEnqueue(ctx, pod)
}

// isRunning says whether victims of the pod are being evicted right now.
func (e *evictor) isRunning(pod *corev1.Pod) bool {
	return e.plain.Executor.IsPodRunningPreemption(pod.UID)
}

// announceVictims tells each victim by an Event who took its place and why it was chosen.
func (e *evictor) announceVictims() {
	evict := e.plain.Executor.PreemptPod
	e.plain.Executor.PreemptPod = func(ctx context.Context, c preemption.Candidate, preemptor preemption.ExecutorPreemptor, victim *corev1.Pod, pluginName string) (bool, error) {
		inMemory, err := evict(ctx, c, preemptor, victim, pluginName)
		if err == nil && pluginName == Name {
			e.pl.event(victim, preemptor.Obj(), corev1.EventTypeNormal, eventEvicted, actionEvict,
				fmt.Sprintf("Evicted from node %s to make room for GPU memory of pod %s (priority %d)", c.Name(), klog.KObj(preemptor), preemptor.Priority()))
		}
		return inMemory, err
	}
}

// PodGroupPostFilter forwards to the default preemption, which Berth takes the place of.
func (pl *Plugin) PodGroupPostFilter(ctx context.Context, state fwk.PodGroupCycleState, info fwk.PodGroupInfo, schedule fwk.PodGroupSchedulingFunc) (*fwk.PodGroupPostFilterResult, *fwk.Status) {
	return pl.evictor.plain.PodGroupPostFilter(ctx, state, info, schedule)
}
