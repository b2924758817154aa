// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package preempt

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	plfeature "k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/history"
)

// Evictor runs the framework's own preemption machinery: its executor deletes victims, sets their conditions and
// keeps the preemptor out of the queue meanwhile. Pods that ask for no GPU memory go through the default preemption,
// unchanged; for the others only the choice of node and victims is Berth's, see Search.
type Evictor struct {
	World
	// Plain is the default preemption.
	Plain     *defaultpreemption.DefaultPreemption
	evaluator *preemption.Evaluator
	// groups says that pods can belong to groups that are disrupted as a whole.
	groups bool
}

var _ preemption.Interface = &Evictor{}

// World is what an evictor needs to know, and whom it tells.
type World struct {
	Rules
	// Plugin is the name of the plugin that evicts.
	Plugin string
	Handle fwk.Handle
	Clock  clock.PassiveClock
	Ledger *gpustate.Ledger
	Claims *claims.Book
	// Viewer returns a viewer of the state as it is now; nil if it cannot be told.
	Viewer func() *gpustate.Viewer
	// Exists says whether the API still has a pod, as far as is known now.
	Exists func(*corev1.Pod) bool
	// MayEvict says why nobody may be evicted by this process now; nil = it may.
	MayEvict func() error
	// Evicted is called when a victim was deleted, and Tell to let its owner know why.
	Evicted func(ctx context.Context, victim *corev1.Pod, reason history.EvictionReason, preemptor klog.KMetadata)
	Tell    func(victim *corev1.Pod, preemptor runtime.Object, note string)
}

// Rules are what an admin says about evictions.
type Rules struct {
	Strategy                                                            alloc.Strategy
	LoadTimeout, MaxMinRuntime, MemoryReturnTimeout, WaitBeforeEviction time.Duration
	EvictOtherSchedulers                                                bool
}

// New makes an evictor.
func New(ctx context.Context, w World) (*Evictor, error) {
	features := plfeature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate)
	// The defaults of DefaultPreemptionArgs.
	args := &schedulerconfig.DefaultPreemptionArgs{MinCandidateNodesPercentage: 10, MinCandidateNodesAbsolute: 100}
	plain, err := defaultpreemption.New(ctx, args, w.Handle, features)
	if err != nil {
		return nil, fmt.Errorf("default preemption: %w", err)
	}
	e := &Evictor{World: w, Plain: plain, groups: features.EnableGenericWorkload}
	e.evaluator = preemption.NewEvaluator(w.Plugin, w.Handle, e, plain.Executor)
	e.announceVictims()
	return e, nil
}

// PreEnqueue keeps a pod out of the queue while its victims are being evicted.
func (e *Evictor) PreEnqueue(ctx context.Context, pod *corev1.Pod) *fwk.Status {
	return e.Plain.PreEnqueue(ctx, pod)
}

// IsRunning says whether victims of the pod are being evicted right now.
func (e *Evictor) IsRunning(pod *corev1.Pod) bool {
	return e.Plain.Executor.IsPodRunningPreemption(pod.UID)
}

// Preempt evicts the victims of the cheapest eviction of a search, and nominates the pod to its node. It is nil if
// there is none: then the status says why.
func (e *Evictor) Preempt(ctx context.Context, s *Search, m fwk.NodeToStatusReader) (*Eviction, *fwk.PostFilterResult, *fwk.Status) {
	nodes, err := m.NodesForStatusCode(e.Handle.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return nil, nil, fwk.AsStatus(err)
	}
	var candidates []fwk.NodeInfo
	if may, _ := e.PodEligibleToPreemptOthers(ctx, s.preemptor, nil); may {
		// An extender may refuse the cheapest: then the evaluator needs the others too.
		all := len(e.Handle.Extenders()) > 0
		if cheapest := s.Run(ctx, nodes, all); cheapest != nil {
			if s.RoomOn = e.roomNow(s.shared, m, nodes); s.RoomOn != "" {
				return nil, nil, fwk.NewStatus(fwk.Unschedulable, fmt.Sprintf(roomCame, s.RoomOn))
			}
			candidates = []fwk.NodeInfo{cheapest.Node}
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

// roomCame is what a pod is told that need not evict any more.
const roomCame = "room came up on node %s, so nobody is evicted"

// roomNow looks once more, before the first victim goes, at the nodes that only Berth refused: the cycle has seen the
// state of its beginning, in its reports and in its lists of pods, and somebody may have left since. It returns the node on
// which the pod fits now, or "".
func (e *Evictor) roomNow(s *cycle.State, m fwk.NodeToStatusReader, nodes []fwk.NodeInfo) string {
	viewer := e.Viewer()
	if viewer == nil {
		return ""
	}
	now := &cycle.State{Pod: s.With(viewer)}
	for _, ni := range nodes {
		if m.Get(ni.Node().Name).Plugin() != e.Plugin {
			continue
		}
		view := now.View(ni)
		lacks, _ := now.Lacks(ni)
		if e.Claims.LeftLately(ni.Node().Name, e.Clock.Now()) {
			q := now.Query()
			view = viewer.View(ni.Node(), slices.DeleteFunc(cycle.PodsOf(ni), e.isGone), &q)
			lacks = now.LacksBut(ni, e.isGone)
		}
		if !lacks && now.Fit(&view).Fits {
			return ni.Node().Name
		}
	}
	return ""
}

// isGone says whether a pod on the cycle's list is gone, with all that was booked for it.
func (e *Evictor) isGone(pod *corev1.Pod) bool { return e.Ledger.Get(pod.UID) == nil && !e.Exists(pod) }

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
func (e *Evictor) SelectVictimsOnNode(ctx context.Context, _ fwk.CycleState, _ *corev1.Pod, ni fwk.NodeInfo, _ []*preemption.DomainVictim,
	_ []*policyv1.PodDisruptionBudget) ([]*corev1.Pod, int, *fwk.Status) {
	if s, _ := ctx.Value(searchKey{}).(*Search); s != nil {
		if p := s.found[ni.Node().Name]; p != nil {
			return p.Pods(), p.Cost.Violations, nil
		}
	}
	return nil, 0, fwk.NewStatus(fwk.Unschedulable, string(gpustate.ReasonInsufficientMemory))
}

// GetOffsetAndNumCandidates makes the evaluator look at every node that it is given.
func (e *Evictor) GetOffsetAndNumCandidates(nodes int32) (offset, candidates int32) { return 0, nodes }

// CandidatesToVictimsMap returns the victims by node.
func (e *Evictor) CandidatesToVictimsMap(candidates []preemption.Candidate) map[string]*extenderv1.Victims {
	return e.Plain.CandidatesToVictimsMap(candidates)
}

// PodEligibleToPreemptOthers says whether the pod may evict at all. What it waits for already was looked at before,
// see PostFilter.
func (e *Evictor) PodEligibleToPreemptOthers(_ context.Context, pod *corev1.Pod, _ *fwk.Status) (bool, string) {
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return false, "not eligible due to preemptionPolicy=Never."
	}
	return true, ""
}

// OrderedScoreFuncs ranks nodes as the search does: the default breaks ties at random.
func (e *Evictor) OrderedScoreFuncs(ctx context.Context, nodes map[string]*extenderv1.Victims) []func(string) int64 {
	s, _ := ctx.Value(searchKey{}).(*Search)
	evictions := make([]*Eviction, 0, len(nodes))
	for name := range nodes {
		evictions = append(evictions, s.found[name])
	}
	slices.SortFunc(evictions, (*Eviction).compare)
	rank := make(map[string]int64, len(evictions))
	for i, p := range evictions {
		rank[p.Name()] = -int64(i)
	}
	return []func(string) int64{func(node string) int64 { return rank[node] }}
}

// single returns the pods of a node that can be evicted one by one. A group that goes as a whole is too dear for memory
// on one node.
func (e *Evictor) single(ctx context.Context, ni fwk.NodeInfo) ([]fwk.PodInfo, error) {
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
func (e *Evictor) announceVictims() {
	evict := e.Plain.Executor.PreemptPod
	e.Plain.Executor.PreemptPod = func(ctx context.Context, c preemption.Candidate, preemptor preemption.ExecutorPreemptor, victim *corev1.Pod, pluginName string) (bool, error) {
		if err := e.MayEvict(); err != nil {
			return false, err
		}
		inMemory, err := evict(ctx, c, preemptor, victim, pluginName)
		if err == nil && !inMemory {
			e.Evicted(ctx, victim, e.reasonOf(preemptor, victim, pluginName), preemptor)
		}
		if err == nil && pluginName == e.Plugin {
			why := fmt.Sprintf("its priority is %d, this pod's is %d", preemptor.Priority(), corev1helpers.PodPriority(victim))
			if preemptor.Priority() == corev1helpers.PodPriority(victim) {
				why = "of the same priority, and this pod has been idle for longer than its " + berthv1alpha1.AnnotationIdleAfter
			}
			e.Tell(victim, referable(preemptor), fmt.Sprintf("Evicted from node %s to make room for GPU memory of pod %s: %s", c.Name(), klog.KObj(preemptor), why))
		}
		return inMemory, err
	}
}

// referable returns what an Event can refer to: the Obj of a single pod's preemptor is of no type of the API, and the recorder
// would leave it out without a word.
func referable(preemptor preemption.ExecutorPreemptor) runtime.Object {
	if pods := slices.Collect(maps.Values(preemptor.Pods())); len(pods) == 1 {
		return pods[0]
	}
	return preemptor.Obj()
}

// reasonOf says why a victim was evicted by a plugin.
func (e *Evictor) reasonOf(preemptor preemption.ExecutorPreemptor, victim *corev1.Pod, pluginName string) history.EvictionReason {
	switch {
	case pluginName != e.Plugin:
		return history.OtherResources
	case preemptor.Priority() == corev1helpers.PodPriority(victim):
		return history.Idle
	}
	return history.LowerPriority
}
