// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"cmp"
	"slices"

	"github.com/berth-dev/berth/pkg/alloc"
)

// MaxVictims is how many victims of one node are considered, more than twice what a kubelet runs by default. Of more,
// those of the best class are, and of one class those that free most.
const MaxVictims = 256

// How many steps the searches for one plan may take; a step is less than a tenth of a microsecond.
const (
	// fullSteps is for finding the cheapest plan. When it is used up, the cheapest found so far stands, unless its
	// class is not the best.
	fullSteps = 1 << 16
	// classSteps is for finding the best class: violations, priority, active victims. Those searches are much
	// smaller, because they need not tell victims of one class apart.
	classSteps = 1 << 17
	// refineSteps is for telling plans apart that are equal in class, number of victims and bytes to reload.
	refineSteps = 1 << 16
)

// Find returns the cheapest set of victims, by the order of Cost, after whose eviction the request fits on the node,
// over all options and all sets of devices; and as the runner-up the cheapest that spares one of them at least. No
// victim is unnecessary. budgets says for each disruption budget how many more evictions it allows (less than zero is
// none). Blocked devices stay blocked. It is not ok if the request does not fit even with all victims gone.
//
// Victims that are equal in cost are told apart by name: of two plans, the one whose names come first. Whatever the
// order of devices and victims, the plan is the same.
//
// The plan is Exact if the search ended because nothing cheaper was left. On 8 GPUs with 40 victims that takes tens to
// hundreds of microseconds, on 16 with 100 up to a few milliseconds. But to find such a set is a covering problem, so
// there are nodes on which it would not end in time: many victims that each span many GPUs of which none is the
// obvious one. Then Exact is false, and what is still certain depends on what was used up. After refineSteps, the plan
// is the cheapest but for last use and names. After fullSteps, it is the cheapest that is known of the best class: no
// other has fewer violations of budgets, or as few and a lower priority, or as low a priority and fewer active
// victims. After classSteps, it is the best found. Of more than MaxVictims, no plan is called exact.
func Find(n *alloc.Node, r *alloc.Request, victims []Victim, budgets []int) (best Plan, runnerUp *Plan, ok bool) {
	e := newEvictor(n, r, victims, budgets)
	if e == nil {
		return Plan{}, nil, false
	}
	defer e.release()
	all := e.all()
	set, exact, ok := e.cheapest(&all, 1, nil)
	if !ok {
		return Plan{}, nil, false
	}
	best = e.plan(&set, exact)
	for v := range e.victims {
		if !set.has(v) {
			continue
		}
		others := all
		others.remove(v)
		// All of these together may take as long as the best did.
		if set, exact, ok := e.cheapest(&others, len(best.Victims), nil); ok {
			if p := e.plan(&set, exact); runnerUp == nil || e.before(&p, runnerUp) {
				runnerUp = &p
			}
		}
	}
	return best, runnerUp, true
}

// Best is Find without the runner-up, for when many nodes are compared.
func Best(n *alloc.Node, r *alloc.Request, victims []Victim, budgets []int) (Plan, bool) {
	e := newEvictor(n, r, victims, budgets)
	if e == nil {
		return Plan{}, false
	}
	defer e.release()
	all := e.all()
	set, exact, ok := e.cheapest(&all, 1, nil)
	if !ok {
		return Plan{}, false
	}
	return e.plan(&set, exact), true
}

// Below is Best for when many nodes are compared: it is not ok either if the plan costs more than the limit,
// or as much and orEqual is not set, and it ends as soon as that is clear.
func Below(n *alloc.Node, r *alloc.Request, victims []Victim, budgets []int, limit Cost, orEqual bool) (Plan, bool) {
	e := newEvictor(n, r, victims, budgets)
	if e == nil {
		return Plan{}, false
	}
	defer e.release()
	all := e.all()
	set, exact, ok := e.cheapest(&all, 1, &ceiling{limit, orEqual})
	if !ok {
		return Plan{}, false
	}
	p := e.plan(&set, exact)
	c := p.Cost.Compare(limit)
	return p, c < 0 || c == 0 && orEqual
}

// ceiling is what a plan may cost: less than the cost, or as much if orEqual is set.
type ceiling struct {
	Cost
	orEqual bool
}

// run searches for the cheapest set of open victims of less than that price, and leaves it in e.best. It returns
// whether the search was complete. The steps that it takes are taken off.
func (e *evictor) run(open *victimSet, by pricing, steps *int, below price) bool {
	e.priceBy(by)
	e.open, e.steps = *open, *steps
	e.best = found{price: below}
	e.improve(e.reduce(*open))
	e.begin()
	for _, s := range e.searches {
		s.explore()
	}
	*steps = e.steps
	return e.steps >= 0
}

// begin prepares a search for each option and set of devices that may be used together.
func (e *evictor) begin() {
	e.spare = append(e.spare, e.searches...)
	e.searches = e.searches[:0]
	for i := range e.request.Options() {
		for _, together := range e.together {
			if len(e.spare) == 0 {
				e.spare = append(e.spare, &search{evictor: e})
			}
			s := e.spare[len(e.spare)-1]
			if s.begin(&e.request.Options()[i], together) {
				s.sharpen()
				e.spare = e.spare[:len(e.spare)-1]
				e.searches = append(e.searches, s)
			}
		}
	}
}

// improve makes the set the best if it is.
func (e *evictor) improve(set victimSet, p price) {
	if p.less(e.best.price) {
		e.best = found{set, p, true}
	}
}

// reduce drops the victims that the others make unnecessary, the dearest first.
func (e *evictor) reduce(set victimSet) (victimSet, price) {
	for _, v := range e.dearest {
		if set.has(v) {
			set.remove(v)
			if !e.fits(&set) {
				set.add(v)
			}
		}
	}
	return set, e.priceOf(&set)
}

// fits says whether the request fits once all these are gone.
func (e *evictor) fits(gone *victimSet) bool {
	var free [alloc.MaxDevices]uint64
	for v := range e.victims {
		if gone.has(v) {
			for _, f := range e.victims[v].frees {
				free[f.device] += f.amount
			}
		}
	}
	var available alloc.Amounts
	for i := range e.node.Devices {
		if d := &e.node.Devices[i]; d.Blocked == "" {
			available[i] = d.Capacity.Minus(d.Used.Minus(alloc.BytesOf(free[i])))
		}
	}
	return alloc.FitsIn(e.node, e.request, &available)
}

// plan makes a plan of a set of victims.
func (e *evictor) plan(set *victimSet, exact bool) Plan {
	p := Plan{Exact: exact && !e.truncated}
	after := alloc.Node{Name: e.node.Name, Devices: slices.Clone(e.node.Devices)}
	for v := range e.victims {
		if set.has(v) {
			p.Victims = append(p.Victims, e.victims[v].given)
			for _, f := range e.victims[v].frees {
				d := &after.Devices[f.device]
				d.Used = d.Used.Minus(alloc.BytesOf(f.amount))
			}
		}
	}
	p.Cost = CostOf(e.given, p.Victims, e.allowed)
	slices.SortStableFunc(p.Victims, func(a, b int) int { return cmp.Compare(e.given[b].Priority, e.given[a].Priority) })
	p.Allocation, _ = alloc.Best(&after, e.request, alloc.MostAllocated)
	return p
}

// before says whether plan p comes before plan o.
func (e *evictor) before(p, o *Plan) bool {
	names := func(p *Plan) []string {
		names := make([]string, 0, len(p.Victims))
		for _, i := range p.Victims {
			names = append(names, e.given[i].Name)
		}
		slices.Sort(names)
		return names
	}
	if c := p.Cost.Compare(o.Cost); c != 0 {
		return c < 0
	}
	return slices.Compare(names(p), names(o)) < 0
}

// of returns the Victim as given.
func (e *evictor) of(v int) *Victim { return &e.given[e.victims[v].given] }
