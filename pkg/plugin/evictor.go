// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	plfeature "k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// evictor runs the framework's own preemption machinery: its executor deletes victims, sets their conditions and
// keeps the preemptor out of the queue meanwhile. Pods that ask for no GPU memory go through the default preemption,
// unchanged; for the others only the choice of node and victims is Berth's, see search.
type evictor struct {
	pl        *Plugin
	plain     *defaultpreemption.DefaultPreemption
	evaluator *preemption.Evaluator
	// groups says that pods can belong to groups that are disrupted as a whole.
	groups bool
}

var _ preemption.Interface = &evictor{}

func newEvictor(ctx context.Context, pl *Plugin) (*evictor, error) {
	features := plfeature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate)
	// The defaults of DefaultPreemptionArgs.
	args := &schedulerconfig.DefaultPreemptionArgs{MinCandidateNodesPercentage: 10, MinCandidateNodesAbsolute: 100}
	plain, err := defaultpreemption.New(ctx, args, pl.handle, features)
	if err != nil {
		return nil, fmt.Errorf("default preemption: %w", err)
	}
	e := &evictor{pl: pl, plain: plain, groups: features.EnableGenericWorkload}
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

// preempt evicts the victims of the cheapest plan of a search, and nominates the pod to its node. The plan is nil if
// there is none: then the status says why.
func (e *evictor) preempt(ctx context.Context, s *search, m fwk.NodeToStatusReader) (*nodePlan, *fwk.PostFilterResult, *fwk.Status) {
	nodes, err := m.NodesForStatusCode(e.pl.handle.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return nil, nil, fwk.AsStatus(err)
	}
	var candidates []fwk.NodeInfo
	if may, _ := e.PodEligibleToPreemptOthers(ctx, s.preemptor, nil); may {
		// An extender may refuse the cheapest: then the evaluator needs the others too.
		all := len(e.pl.handle.Extenders()) > 0
		if cheapest := s.run(ctx, nodes, all); cheapest != nil {
			candidates = []fwk.NodeInfo{cheapest.node}
		}
		if all {
			candidates = slices.DeleteFunc(nodes, func(ni fwk.NodeInfo) bool { return s.found[ni.Node().Name] == nil })
		}
	}
	ctx = context.WithValue(ctx, searchKey{}, s)
	result, status := e.evaluator.Preempt(ctx, s.state, s.preemptor, candidateNodes{m, candidates})
	if !status.IsSuccess() {
		return nil, result, status
	}
	chosen := s.found[result.NominatedNodeName]
	if chosen == nil {
		return nil, nil, fwk.AsStatus(fmt.Errorf("the evaluator chose node %q, on which no victims were found", result.NominatedNodeName))
	}
	return chosen, result, status
}

// candidateNodes makes the evaluator look at these nodes only.
type candidateNodes struct {
	fwk.NodeToStatusReader
	nodes []fwk.NodeInfo
}

// NodesForStatusCode implements fwk.NodeToStatusReader.
func (c candidateNodes) NodesForStatusCode(fwk.NodeInfoLister, fwk.Code) ([]fwk.NodeInfo, error) {
	return c.nodes, nil
}

// SelectVictimsOnNode returns the victims that the search found on a node.
func (e *evictor) SelectVictimsOnNode(ctx context.Context, _ fwk.CycleState, _ *corev1.Pod, ni fwk.NodeInfo, _ []*preemption.DomainVictim,
	_ []*policyv1.PodDisruptionBudget) ([]*corev1.Pod, int, *fwk.Status) {
	if s, _ := ctx.Value(searchKey{}).(*search); s != nil {
		if p := s.found[ni.Node().Name]; p != nil {
			return p.pods(), p.cost.Violations, nil
		}
	}
	return nil, 0, rejected(fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
}

// GetOffsetAndNumCandidates makes the evaluator look at every node that it is given.
func (e *evictor) GetOffsetAndNumCandidates(nodes int32) (offset, candidates int32) { return 0, nodes }

// CandidatesToVictimsMap returns the victims by node.
func (e *evictor) CandidatesToVictimsMap(candidates []preemption.Candidate) map[string]*extenderv1.Victims {
	return e.plain.CandidatesToVictimsMap(candidates)
}

// PodEligibleToPreemptOthers says whether the pod may evict at all. What it waits for already was looked at before,
// see PostFilter.
func (e *evictor) PodEligibleToPreemptOthers(_ context.Context, pod *corev1.Pod, _ *fwk.Status) (bool, string) {
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return false, "not eligible due to preemptionPolicy=Never."
	}
	return true, ""
}

// OrderedScoreFuncs ranks nodes as the search does: the default breaks ties at random.
func (e *evictor) OrderedScoreFuncs(ctx context.Context, nodes map[string]*extenderv1.Victims) []func(string) int64 {
	s, _ := ctx.Value(searchKey{}).(*search)
	plans := make([]*nodePlan, 0, len(nodes))
	for name := range nodes {
		plans = append(plans, s.found[name])
	}
	slices.SortFunc(plans, (*nodePlan).compare)
	rank := make(map[string]int64, len(plans))
	for i, p := range plans {
		rank[p.name()] = -int64(i)
	}
	return []func(string) int64{func(node string) int64 { return rank[node] }}
}

// single returns the pods of a node that can be evicted one by one. A group that goes as a whole is too dear for memory
// on one node.
func (e *evictor) single(ctx context.Context, ni fwk.NodeInfo) ([]fwk.PodInfo, error) {
	if !e.groups {
		return ni.GetPods(), nil
	}
	victims, err := e.evaluator.GetVictimsOnNode(ctx, ni)
	if err != nil {
		return nil, err
	}
	var pods []fwk.PodInfo
	for _, v := range victims {
		if len(v.Pods()) == 1 {
			pods = append(pods, v.Pods()[0])
		}
	}
	return pods, nil
}

// announceVictims tells each victim by an Event who took its place, and notes that it goes.
func (e *evictor) announceVictims() {
	evict := e.plain.Executor.PreemptPod
	e.plain.Executor.PreemptPod = func(ctx context.Context, c preemption.Candidate, preemptor preemption.ExecutorPreemptor, victim *corev1.Pod, pluginName string) (bool, error) {
		if err := e.pl.leader.Holds(0); err != nil {
			return false, err
		}
		inMemory, err := evict(ctx, c, preemptor, victim, pluginName)
		if err == nil && !inMemory {
			e.pl.podGoing(victim)
		}
		if err == nil && pluginName == Name {
			why := fmt.Sprintf("its priority is %d, this pod's is %d", preemptor.Priority(), corev1helpers.PodPriority(victim))
			if preemptor.Priority() == corev1helpers.PodPriority(victim) {
				why = "of the same priority, and this pod has been idle for longer than its " + berthv1alpha1.AnnotationIdleAfter
			}
			e.pl.event(victim, preemptor.Obj(), corev1.EventTypeNormal, eventEvicted, actionEvict,
				fmt.Sprintf("Evicted from node %s to make room for GPU memory of pod %s: %s", c.Name(), klog.KObj(preemptor), why))
		}
		return inMemory, err
	}
}

// podGoing notes that a pod was deleted to make room.
func (pl *Plugin) podGoing(pod *corev1.Pod) {
	pl.plans.setGoing(pod)
	if got, err := pl.evictor.evaluator.PodLister.Pods(pod.Namespace).Get(pod.Name); err != nil || got.UID != pod.UID {
		pl.dropPlan(pod) // that it is gone may have been told before
	}
}

// PodGroupPostFilter evicts nobody for a group with pods that ask for GPU memory: the default preemption would choose
// victims without a look at GPUs, min-runtime or memory on its way back. Other groups go through it.
func (pl *Plugin) PodGroupPostFilter(ctx context.Context, state fwk.PodGroupCycleState, info fwk.PodGroupInfo, schedule fwk.PodGroupSchedulingFunc) (*fwk.PodGroupPostFilterResult, *fwk.Status) {
	if pl.anyAsksForMemory(info) {
		return nil, rejected(fwk.Unschedulable, gpustate.ReasonGroupEvictsNobody)
	}
	return pl.evictor.plain.PodGroupPostFilter(ctx, state, info, schedule)
}

// anyAsksForMemory says whether a pod of a group, or of the groups below it, asks for GPU memory.
func (pl *Plugin) anyAsksForMemory(info fwk.PodGroupInfo) bool {
	return slices.ContainsFunc(info.GetUnscheduledPods(), func(pod *corev1.Pod) bool {
		r := pl.resolve(pod)
		return r.request != nil || r.unresolved != nil || r.err != nil
	}) || slices.ContainsFunc(info.GetChildren(), pl.anyAsksForMemory)
}
