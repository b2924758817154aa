// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package preempt

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/evict"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// Eviction is the cheapest eviction on one node: first for the memory alone, then, complete, for all that the pod needs.
type Eviction struct {
	Node fwk.NodeInfo
	view gpustate.View
	// eligible are the pods that may be evicted, and victims what they are to the planner.
	eligible []candidate
	victims  []evict.Victim
	// allocation is what is booked once those chosen, indexes into eligible, are gone: the most important first.
	Allocation alloc.Allocation
	chosen     []int
	Cost       evict.Cost
	// Exact says that nothing cheaper is possible for the memory alone; else the search was cut short.
	Exact bool
}

// candidate is a pod that may be evicted.
type candidate struct {
	pod  *corev1.Pod
	info fwk.PodInfo
	// idle says that it has been idle for its idle-after, and loads that it has not loaded yet.
	idle, loads bool
	// lastActive is since when it has been idle, in ns; the end of time if it is active, or that is not measured.
	lastActive int64
}

// Name is the node's.
func (p *Eviction) Name() string { return p.Node.Node().Name }

// forMemory finds the pods on a node whose eviction makes room in its GPUs at the least cost; nil if no eviction does, or
// if that is dearer than the cheapest found so far.
func (s *Search) forMemory(ctx context.Context, ni fwk.NodeInfo) *Eviction {
	dry := s.dryRun(ni)
	view := dry.Explained(ni)
	if view.Reason != "" {
		return nil
	}
	if known := s.known(&view); known != nil && len(known.victims) == 0 {
		return nil // most nodes of a cluster in which nobody may be evicted
	}
	p := &Eviction{Node: ni, view: view}
	if err := s.findEligible(ctx, p); err != nil || len(p.victims) == 0 {
		return nil // that it fits without victims was looked for before
	}
	var best evict.Plan
	var ok bool
	if s.cheapest == nil || s.all {
		best, ok = evict.Best(&p.view.Node, dry.Request.On(&p.view.Node), p.victims, s.allowed)
	} else {
		best, ok = evict.Below(&p.view.Node, dry.Request.On(&p.view.Node), p.victims, s.allowed, s.cheapest.Cost, p.Name() < s.cheapest.Name())
	}
	if !ok {
		return nil
	}
	p.Allocation, p.chosen, p.Cost, p.Exact = best.Allocation, best.Victims, best.Cost, best.Exact
	return p
}

// dryRun returns the state of a try on a node: what comes back counts as free, unless that takes longer than
// waitBeforeEviction, or the pod has waited for it there in vain: nobody is evicted to wait for an hour beside.
func (s *Search) dryRun(ni fwk.NodeInfo) *cycle.State {
	soon := s.now
	if !s.isCalm(ni) {
		soon = expected(ni, s.comingBack, s.now)
	}
	if !s.e.IsSoon(soon, s.now) || s.e.Claims.HasGivenUp(s.shared.UID, ni.Node().Name, s.now) {
		return s.shared.Assume(false)
	}
	if gone := cycle.On(ni, s.comingBack); gone != nil {
		return s.shared.Assume(true, gone)
	}
	return s.drained
}

// isCalm says whether nobody on a node is known to go, as was found out for another pod: on most nodes of a cluster.
func (s *Search) isCalm(ni fwk.NodeInfo) bool {
	view := s.drained.Explained(ni)
	known := s.known(&view)
	return known != nil && known.calm
}

// eligibility is who may be evicted on a node for any pod of a priority, whenever that is, kept with the node's view.
type eligibility struct {
	priority int32
	eligible []candidate
	victims  []evict.Victim // without budgets
	// calm says that no pod of the node terminates.
	calm bool
}

// known returns who may be evicted on a node, if that was found out before; else nil.
func (s *Search) known(view *gpustate.View) *eligibility {
	known, _ := view.Derived().(*eligibility)
	if known == nil || known.priority != s.shared.Priority || len(s.comingBack[view.Name]) > 0 {
		return nil
	}
	return known
}

// findEligible fills in who may be evicted on the node for the preemptor now, and notes when others may be.
func (s *Search) findEligible(ctx context.Context, p *Eviction) error {
	if known := s.known(&p.view); known != nil {
		p.eligible, p.victims = known.eligible, known.victims
	} else {
		always, err := s.judgeAll(ctx, p)
		if err != nil {
			return err
		}
		if always && len(s.comingBack[p.Name()]) == 0 && !s.e.groups {
			calm := !slices.ContainsFunc(p.Node.GetPods(), func(pi fwk.PodInfo) bool { return pi.GetPod().DeletionTimestamp != nil })
			p.view.SetDerived(&eligibility{s.shared.Priority, p.eligible, p.victims, calm})
		}
	}
	if len(s.budgets) > 0 {
		p.victims = slices.Clone(p.victims)
		for i := range p.victims {
			p.victims[i].Budgets = s.budgetsOf(p.eligible[i].pod)
		}
	}
	return nil
}

// judgeAll fills in who may be evicted, by looking at each pod. It returns whether that holds at any time: no pod has
// terms that depend on it.
func (s *Search) judgeAll(ctx context.Context, p *Eviction) (always bool, err error) {
	always = true
	node := p.Name()
	pods, err := s.e.single(ctx, p.Node)
	if err != nil {
		return false, err
	}
	p.eligible, p.victims = make([]candidate, 0, len(pods)), make([]evict.Victim, 0, len(pods))
	frees := make([]evict.Charge, 0, 2*len(pods))
	next := 0
	for _, info := range pods {
		c := candidate{pod: info.GetPod(), info: info, lastActive: math.MaxInt64}
		e := s.e.Ledger.Get(c.pod.UID)
		always = always && (e == nil || e.Terms == (gpustate.Terms{}))
		if !s.mayGo(&c, e, p.view.Report) {
			continue
		}
		always = always && !c.loads
		v := evict.Victim{
			Name: c.pod.Namespace + "/" + c.pod.Name, Priority: corev1helpers.PodPriority(c.pod), Idle: c.idle || c.loads,
			Pinned: isPinned(c.pod), LastActive: c.lastActive,
		}
		if charge := chargeOf(p.view.Charges, c.pod.UID, &next); charge != nil {
			from := len(frees)
			for d, memory := range charge.Charged {
				if !memory.IsZero() {
					frees = append(frees, evict.Charge{Device: d, Memory: memory})
					v.Reload = v.Reload.Plus(memory)
				}
			}
			v.Frees = frees[from:len(frees):len(frees)]
		}
		p.eligible, p.victims = append(p.eligible, c), append(p.victims, v)
	}
	return !s.fillWithLoaders(p, node) && always, nil
}

// fillWithLoaders makes devices full on which somebody loads next to whom the pod must not load, and lets whoever may be
// evicted of those give the device back. It says whether there are any.
func (s *Search) fillWithLoaders(p *Eviction, node string) (any bool) {
	for _, e := range s.e.Ledger.OnNode(node) {
		going := e.Pod != nil && e.Pod.DeletionTimestamp != nil || s.comingBack[node].Has(e.UID)
		if going || e.UID == s.preemptor.UID || !e.KeepsOff(s.shared.Request.Runtime, s.e.LoadTimeout, s.shared.Viewer.Snapshot.Now()) {
			continue
		}
		if !any {
			p.view.Devices, any = slices.Clone(p.view.Devices), true // they may be remembered
		}
		victim := slices.IndexFunc(p.eligible, func(c candidate) bool { return c.pod.UID == e.UID })
		for on := p.view.Report.DevicesOf(e.Allocation); on != 0; on &= on - 1 {
			i := bits.TrailingZeros64(on)
			whole := p.view.Devices[i].Total
			p.view.Devices[i].Used = p.view.Devices[i].Used.Plus(whole)
			if victim >= 0 {
				p.victims[victim].Frees = append(p.victims[victim].Frees, evict.Charge{Device: i, Memory: whole})
			}
		}
	}
	return any
}

// isPinned says whether no other node can take a pod's replacement: a DaemonSet makes one for the same node.
func isPinned(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// chargeOf returns what a pod is charged for, or nil. It looks from next on, which it moves: charges are in the order of
// the pods.
func chargeOf(charges []gpustate.Charge, uid types.UID, next *int) *gpustate.Charge {
	for i := range charges {
		at := (*next + i) % len(charges)
		if charges[at].UID == uid {
			*next = at + 1
			return &charges[at]
		}
	}
	return nil
}

// mayGo says whether a pod may be evicted now, and fills in how idle it is; e is its booking, or nil.
func (s *Search) mayGo(c *candidate, e *gpustate.Entry, report *gpustate.Report) bool {
	if c.pod.DeletionTimestamp != nil || s.comingBack[c.pod.Spec.NodeName].Has(c.pod.UID) || c.pod.UID == s.preemptor.UID {
		return false
	}
	var terms gpustate.Terms
	if e != nil {
		terms = e.Terms
	}
	if c.pod.Spec.SchedulerName != s.e.Handle.ProfileName() && !s.e.EvictOtherSchedulers && !berthv1alpha1.IsEvictable(c.pod) {
		return false
	}
	idleSince, measured := report.IdleSince(c.pod.UID)
	if measured {
		c.lastActive = idleSince.UnixNano()
	}
	now := s.shared.Viewer.Snapshot.Now()
	c.idle = measured && terms.IdleAfter > 0 && now.Sub(idleSince) >= terms.IdleAfter
	if until, loads := gpustate.LoadingUntil(c.pod, s.e.LoadTimeout); loads && e != nil {
		c.loads = until.IsZero() || now.Before(until)
	}
	switch p := corev1helpers.PodPriority(c.pod); {
	case p > s.shared.Priority:
		return false
	case p == s.shared.Priority && (!s.evictIdle || !c.idle || gpustate.SameWorkload(s.preemptor, c.pod)):
		return false
	}
	return e == nil || !now.Before(e.ProtectedUntil(s.e.LoadTimeout, s.e.MaxMinRuntime))
}

// Pods returns those that go.
func (p *Eviction) Pods() []*corev1.Pod {
	out := make([]*corev1.Pod, len(p.chosen))
	for i, v := range p.chosen {
		out[i] = p.eligible[v].pod
	}
	return out
}

// Freed is the GPU memory that those that go give back.
func (p *Eviction) Freed() (sum alloc.Bytes) {
	for _, v := range p.chosen {
		sum = sum.Plus(p.victims[v].Reload)
	}
	return sum
}

// Message tells, for people, what is evicted, where, and why this and not something else.
func (s *Search) Message(p *Eviction) string {
	msg := fmt.Sprintf("Evicting %s from node %s, which frees %s: %s is the cheapest way", p.names(p.chosen), p.Name(), p.Freed(), p.Cost)
	if !p.Exact {
		msg += " found"
	}
	if _, next, _ := evict.Find(&p.view.Node, s.shared.Request.On(&p.view.Node), p.victims, s.allowed); next != nil {
		msg += fmt.Sprintf("; next on that node would have been %s (%s)", p.names(next.Victims), next.Cost)
	}
	return msg
}

func (p *Eviction) names(chosen []int) string {
	names := make([]string, len(chosen))
	for i, v := range chosen {
		names[i] = p.victims[v].Name
	}
	return strings.Join(names, ", ")
}
