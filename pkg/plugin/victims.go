// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

var _ preemption.Interface = &evictor{}

// search is one search for victims over all nodes. It travels in the context, because the evaluator's interface has
// no other place for it; nodes are searched in parallel.
type search struct {
	state *cycleState
	// evictIdle says that the preemptor may evict idle pods of its own priority.
	evictIdle bool
	budgets   []budget
	// promised are the victims of other pods' plans.
	promised map[string]bool

	mu    sync.Mutex
	found map[string]*foundPlan
	// eligibleAt is the earliest moment at which a pod that may not be evicted yet may be.
	eligibleAt time.Time
}

// foundPlan is the cheapest eviction on one node.
type foundPlan struct {
	alloc.EvictionPlan
	victims []*corev1.Pod
	freed   alloc.Bytes
	idle    []*corev1.Pod // victims of the preemptor's own priority
	// runnerUp says what would have been next on the node, for people: it is worked out for the chosen node only.
	runnerUp func() string
}

type searchKey struct{}

// budget is a PodDisruptionBudget with its selector parsed once for the search.
type budget struct {
	namespace string
	selector  labels.Selector
	allowed   int
	// disrupted are the pods whose eviction the budget counts already.
	disrupted map[string]metav1.Time
}

func newBudgets(pdbs []*policyv1.PodDisruptionBudget) []budget {
	var out []budget
	for _, pdb := range pdbs {
		selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err != nil || selector.Empty() {
			continue // a PDB with a nil or empty selector matches nothing
		}
		out = append(out, budget{pdb.Namespace, selector, int(pdb.Status.DisruptionsAllowed), pdb.Status.DisruptedPods})
	}
	return out
}

func (s *search) budgetsOf(pod *corev1.Pod) (indexes []int) {
	if len(pod.Labels) == 0 {
		return nil
	}
	for i := range s.budgets {
		b := &s.budgets[i]
		if b.namespace != pod.Namespace || !b.selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if _, counted := b.disrupted[pod.Name]; !counted {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

func (s *search) allowed() []int {
	out := make([]int, len(s.budgets))
	for i := range s.budgets {
		out[i] = s.budgets[i].allowed
	}
	return out
}

func (s *search) later(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.eligibleAt.IsZero() || at.Before(s.eligibleAt) {
		s.eligibleAt = at
	}
}

// SelectVictimsOnNode finds the cheapest eviction on one node. state and ni are copies that may be changed.
func (e *evictor) SelectVictimsOnNode(ctx context.Context, state fwk.CycleState, preemptor *corev1.Pod, ni fwk.NodeInfo,
	candidates []*preemption.DomainVictim, _ []*policyv1.PodDisruptionBudget) ([]*corev1.Pod, int, *fwk.Status) {
	search, _ := ctx.Value(searchKey{}).(*search)
	s := getCycleState(state)
	if search == nil || s == nil {
		return nil, 0, fwk.NewStatus(fwk.Error, "search for victims without its state")
	}
	pl := e.pl
	s.dryRun = true
	// Memory on its way back counts as free, unless the pod has waited for it in vain.
	s.returned = !pl.plans.hasGivenUp(s.uid, ni.Node().Name, pl.clock.Now())
	q := s.query()
	q.Held = pl.held(s, ni)
	view := s.viewer.Explain(ni.Node(), podsOf(ni), &q)
	if view.Reason != "" {
		return nil, 0, rejected(fwk.UnschedulableAndUnresolvable, view.Reason)
	}

	eligible := e.eligible(search, preemptor, &view, candidates)
	found, ok := e.evictForMemory(search, s, preemptor, &view, eligible)
	if !ok {
		return nil, 0, rejected(fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
	}
	trial := &trial{e: e, ctx: ctx, state: state, preemptor: preemptor, node: ni}
	victims, status := trial.complete(found.victims, eligible)
	if !status.IsSuccess() {
		return nil, 0, status
	}
	if len(victims) == 0 {
		// It fits once memory is back, which waitForMemory looked for, or something else changed meanwhile.
		return nil, 0, rejected(fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
	}
	found.victims = victims
	search.mu.Lock()
	search.found[ni.Node().Name] = found
	search.mu.Unlock()
	return victims, found.Cost.Violations, nil
}

// candidate is a pod that may be evicted.
type candidate struct {
	pod  *corev1.Pod
	info fwk.PodInfo
	idle bool
	// idleSince is when it was last active, if that is measured.
	idleSince time.Time
}

// eligible returns the pods that may be evicted for the preemptor now, and notes when others may be.
func (e *evictor) eligible(search *search, preemptor *corev1.Pod, view *gpustate.View, all []*preemption.DomainVictim) []candidate {
	var out []candidate
	now := search.state.viewer.Snapshot.Now()
	for _, dv := range all {
		pods := dv.Pods()
		if len(pods) != 1 {
			continue // a group that goes as a whole: too dear for memory on one node
		}
		c := candidate{pod: pods[0].GetPod(), info: pods[0]}
		var measured bool
		c.idleSince, measured = view.Report.IdleSince(c.pod.UID)
		if c.pod.DeletionTimestamp != nil || search.promised[string(c.pod.UID)] || c.pod.UID == preemptor.UID {
			continue
		}
		terms := e.pl.termsOf(c.pod)
		c.idle = measured && terms.idleAfter > 0 && now.Sub(c.idleSince) >= terms.idleAfter
		switch p := corev1helpers.PodPriority(c.pod); {
		case p > search.state.priority:
			continue
		case p == search.state.priority:
			if !search.evictIdle || terms.idleAfter == 0 || sameWorkload(preemptor, c.pod) {
				continue
			}
			if !c.idle {
				if measured {
					search.later(c.idleSince.Add(terms.idleAfter))
				}
				continue
			}
		}
		if terms.minRuntime > 0 {
			since, ready := gpustate.RanSince(c.pod)
			if !ready {
				continue
			}
			if until := since.Add(terms.minRuntime); now.Before(until) {
				search.later(now.Add(until.Sub(now)))
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

// evictForMemory finds the cheapest set of pods whose memory makes room.
func (e *evictor) evictForMemory(search *search, s *cycleState, preemptor *corev1.Pod, view *gpustate.View, eligible []candidate) (*foundPlan, bool) {
	charges := make(map[string]*gpustate.Charge, len(view.Charges))
	for i := range view.Charges {
		charges[string(view.Charges[i].UID)] = &view.Charges[i]
	}
	var victims []alloc.Victim
	var pods []*corev1.Pod
	for i := range eligible {
		c := &eligible[i]
		charge := charges[string(c.pod.UID)]
		if charge == nil {
			continue
		}
		v := alloc.Victim{
			Name: c.pod.Namespace + "/" + c.pod.Name, Priority: corev1helpers.PodPriority(c.pod), Idle: c.idle,
			LastActive: s.viewer.Snapshot.Now().UnixNano(), Budgets: search.budgetsOf(c.pod),
		}
		if !c.idleSince.IsZero() {
			v.LastActive = c.idleSince.UnixNano()
		}
		for d, memory := range charge.Charged {
			if !memory.IsZero() {
				v.Frees = append(v.Frees, alloc.Charge{Device: d, Memory: memory})
				v.Reload = v.Reload.Plus(memory)
			}
		}
		if len(v.Frees) > 0 {
			victims, pods = append(victims, v), append(pods, c.pod)
		}
	}
	best, ok := alloc.EvictBest(&view.Node, &s.request.Request, victims, search.allowed())
	if !ok {
		return nil, false
	}
	found := &foundPlan{EvictionPlan: best, runnerUp: func() string {
		_, next, _ := alloc.Evict(&view.Node, &s.request.Request, victims, search.allowed())
		if next == nil {
			return ""
		}
		names := make([]string, len(next.Victims))
		for i, v := range next.Victims {
			names[i] = victims[v].Name
		}
		return fmt.Sprintf("%s (%s)", strings.Join(names, ", "), next.Cost)
	}}
	for _, i := range best.Victims {
		found.victims = append(found.victims, pods[i])
		found.freed = found.freed.Plus(victims[i].Reload)
		if victims[i].Priority == corev1helpers.PodPriority(preemptor) {
			found.idle = append(found.idle, pods[i])
		}
	}
	return found, true
}

// trial checks with the framework's own filters that a pod fits on a node once victims are gone.
type trial struct {
	e         *evictor
	ctx       context.Context
	state     fwk.CycleState
	preemptor *corev1.Pod
	node      fwk.NodeInfo
}

// complete returns the victims that are needed in all: those chosen for their GPU memory, and, if the pod's other
// needs (CPU, memory, ports, affinity) are not met without them, the least important others.
func (t *trial) complete(chosen []*corev1.Pod, eligible []candidate) ([]*corev1.Pod, *fwk.Status) {
	infos := make(map[*corev1.Pod]fwk.PodInfo, len(eligible))
	for i := range eligible {
		infos[eligible[i].pod] = eligible[i].info
	}
	// Pods that terminate already take nothing for long.
	for _, pi := range slices.Clone(t.node.GetPods()) {
		if pi.GetPod().DeletionTimestamp != nil {
			if status := t.remove(pi); !status.IsSuccess() {
				return nil, status
			}
		}
	}
	for _, pod := range chosen {
		if status := t.remove(infos[pod]); !status.IsSuccess() {
			return nil, status
		}
	}
	if status := t.fits(); status.IsSuccess() {
		return byImportance(chosen), nil
	}
	var others []candidate
	for i := range eligible {
		if c := eligible[i]; !slices.Contains(chosen, c.pod) && corev1helpers.PodPriority(c.pod) < corev1helpers.PodPriority(t.preemptor) {
			others = append(others, c)
			if status := t.remove(c.info); !status.IsSuccess() {
				return nil, status
			}
		}
	}
	if status := t.fits(); !status.IsSuccess() {
		return nil, status
	}
	slices.SortFunc(others, func(a, b candidate) int { return compareImportance(a.pod, b.pod) })
	victims := slices.Clone(chosen)
	for _, c := range others {
		if status := t.add(c.info); !status.IsSuccess() {
			return nil, status
		}
		if t.fits().IsSuccess() {
			continue // reprieved
		}
		if status := t.remove(c.info); !status.IsSuccess() {
			return nil, status
		}
		victims = append(victims, c.pod)
	}
	return byImportance(victims), nil
}

func (t *trial) fits() *fwk.Status {
	return t.e.pl.handle.RunFilterPluginsWithNominatedPods(t.ctx, t.state, t.preemptor, t.node)
}

func (t *trial) remove(pi fwk.PodInfo) *fwk.Status {
	if err := t.node.RemovePod(klog.FromContext(t.ctx), pi.GetPod()); err != nil {
		return fwk.AsStatus(err)
	}
	return t.e.pl.handle.RunPreFilterExtensionRemovePod(t.ctx, t.state, t.preemptor, pi, t.node)
}

func (t *trial) add(pi fwk.PodInfo) *fwk.Status {
	t.node.AddPodInfo(pi)
	return t.e.pl.handle.RunPreFilterExtensionAddPod(t.ctx, t.state, t.preemptor, pi, t.node)
}

// byImportance orders victims by decreasing importance, which the executor and the score functions rely on.
func byImportance(pods []*corev1.Pod) []*corev1.Pod {
	slices.SortFunc(pods, compareImportance)
	return pods
}

// compareImportance puts the higher priority first, then the older pod, then the name.
func compareImportance(a, b *corev1.Pod) int {
	if pa, pb := corev1helpers.PodPriority(a), corev1helpers.PodPriority(b); pa != pb {
		return int(int64(pb) - int64(pa)) // int is 64 bits wide on every platform that Kubernetes runs on
	}
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
}

// GetOffsetAndNumCandidates makes the evaluator search every node: the cheapest eviction may be on any of them.
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

// OrderedScoreFuncs ranks nodes by the cost of their evictions, then by name: the default breaks ties at random.
func (e *evictor) OrderedScoreFuncs(ctx context.Context, nodes map[string]*extenderv1.Victims) []func(string) int64 {
	search, _ := ctx.Value(searchKey{}).(*search)
	names := make([]string, 0, len(nodes))
	for name := range nodes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if fa, fb := search.found[a], search.found[b]; fa != nil && fb != nil {
			if c := fa.Cost.Compare(fb.Cost); c != 0 {
				return c
			}
		}
		return strings.Compare(a, b)
	})
	rank := make(map[string]int64, len(names))
	for i, name := range names {
		rank[name] = -int64(i)
	}
	return []func(string) int64{func(node string) int64 { return rank[node] }}
}
