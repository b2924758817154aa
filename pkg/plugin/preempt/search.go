// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package preempt

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// Search is one search for the cheapest eviction over all nodes.
type Search struct {
	e         *Evictor
	state     fwk.CycleState
	shared    *cycle.State
	preemptor *corev1.Pod
	// evictIdle says that the preemptor may evict idle pods of its own priority.
	evictIdle bool
	budgets   []budget
	allowed   []int // by budget, for the planner
	// comingBack are pods whose memory comes back without being evicted for this pod.
	comingBack claims.ComingBack
	now        time.Time
	// drained is the state of a try on a node where nobody is assumed to be gone.
	drained *cycle.State

	// found are the evictions that are complete, by node, and cheapest is the cheapest of them. While nodes are searched in
	// parallel they do not change. all says that those of all nodes are wanted.
	found    map[string]*Eviction
	cheapest *Eviction
	all      bool
	// RoomOn is a node on which room came up during the search.
	RoomOn string
}

// searchKey finds the search in the context: the evaluator's interface has no other place for it.
type searchKey struct{}

// NewSearch prepares a search for the pod of the cycle.
func (e *Evictor) NewSearch(s *cycle.State, state fwk.CycleState, pod *corev1.Pod, now time.Time) (*Search, error) {
	pdbs, err := e.evaluator.PdbLister.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	search := &Search{
		e: e, state: state, shared: s, preemptor: pod, evictIdle: e.Claims.MayEvictIdle(pod, now), budgets: newBudgets(pdbs),
		comingBack: e.Claims.ComingBack(pod.UID), now: now, drained: s.Assume(true), found: map[string]*Eviction{},
	}
	for i := range search.budgets {
		search.allowed = append(search.allowed, search.budgets[i].allowed)
	}
	return search, nil
}

// scouts is how many nodes are searched before the others: one of them is likely to have one about as cheap as there
// is any, which the planner need not exceed on the others.
const scouts = 16

// Run finds the cheapest eviction over the nodes, by the order of evict.Cost and then by the nodes' names, and keeps it in
// found; with all set, those of all nodes. Nodes are left out as soon as it is clear that they cannot have it, so the
// result does not depend on their order.
func (s *Search) Run(ctx context.Context, nodes []fwk.NodeInfo, all bool) *Eviction {
	s.all = all
	first := min(scouts, len(nodes))
	s.among(ctx, nodes[:first])
	s.among(ctx, nodes[first:])
	return s.cheapest
}

// among finds the cheapest eviction of these nodes and of those before.
//
// What the memory alone costs on a node is a lower bound, for the pod's other needs can only add victims. So the
// nodes are tried in the order of that bound, and the framework's filters, which take most of the time, run only on
// nodes that can still be the cheapest. In most clusters that is one.
func (s *Search) among(ctx context.Context, nodes []fwk.NodeInfo) {
	inParallel := func(n int, do func(i int)) { s.e.Handle.Parallelizer().Until(ctx, n, do, s.e.Plugin) }
	evictions := make([]*Eviction, len(nodes))
	inParallel(len(nodes), func(i int) { evictions[i] = s.forMemory(ctx, nodes[i]) })
	evictions = slices.DeleteFunc(evictions, func(p *Eviction) bool { return p == nil })
	slices.SortFunc(evictions, (*Eviction).compare)
	for size := 1; len(evictions) > 0; size *= 2 {
		if s.cheapest != nil && !s.all {
			// The first that is dearer with its memory alone, and all after it, cannot be the cheapest.
			end, _ := slices.BinarySearchFunc(evictions, s.cheapest, (*Eviction).compare)
			evictions = evictions[:end]
		}
		batch := evictions[:min(size, len(evictions))]
		evictions = evictions[len(batch):]
		complete := make([]bool, len(batch))
		inParallel(len(batch), func(i int) { complete[i] = s.complete(ctx, batch[i]) })
		for i, p := range batch {
			if !complete[i] {
				continue
			}
			s.found[p.Name()] = p
			if s.cheapest == nil || p.compare(s.cheapest) < 0 {
				s.cheapest = p
			}
		}
	}
}

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

func (s *Search) budgetsOf(pod *corev1.Pod) (indexes []int) {
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

// compare orders evictions by what they cost, then by node.
func (p *Eviction) compare(o *Eviction) int {
	if c := p.Cost.Compare(o.Cost); c != 0 {
		return c
	}
	return strings.Compare(p.Name(), o.Name())
}
