// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"cmp"
	"slices"
	"sync"

	"github.com/berth-dev/berth/pkg/alloc"
)

// evictor holds what all searches for one node and request have in common.
type evictor struct {
	node    *alloc.Node // by UUID
	request *alloc.Request
	given   []Victim
	allowed []int // as given
	// together are the sets of devices that may be used together.
	together []uint64
	// victims are those that free anything, in the order of names, and loads what they free by device, largest first.
	victims   []victim
	frees     []freed // of all victims
	loads     [][]load
	allLoads  []load
	loadCount int
	truncated bool // there were more than MaxVictims
	// orders are what each costs alone, with a violation if it is not safe; dearest lists the victims, the dearest first.
	orders  []order
	dearest []int
	// budgets is how many more evictions each disruption budget allows, at least 0.
	budgets []int
	// safe are the victims that can all go without violating a budget; unsafe says that there are others.
	safe   victimSet
	unsafe bool

	// inferior[v] are v and the victims in whose place v could always go: see inferiorTo. Filled when needed.
	inferior []victimSet

	// What is left of the steps for classes and for refining.
	classSteps, refineSteps int

	// Of one run: who may be a victim, what is left of the step budget, the best found, and a search for each option
	// and set of devices that may be used together.
	open     victimSet
	steps    int
	best     found
	searches []*search
	spare    []*search
}

// found is a set of victims after which the request fits, and its price.
type found struct {
	victims victimSet
	price   price
	any     bool
}

// victim is a Victim that frees something on a device that can be used.
type victim struct {
	given   int // index into the victims given
	frees   []freed
	on      uint64 // the devices, as bits
	budgets []int
	// price is what it costs in this run apart from violations, and part one of its priceParts parts.
	price, part price
}

type freed struct {
	device uint8
	amount uint64
	load   int // its id
}

// maxFreed bounds what one victim frees on one device, so that MaxVictims of them add up without overflow.
const maxFreed = 1 << 54

// evictors are for use again: one is made for each of thousands of nodes, and most of what a preemption leaves to the
// garbage collector was theirs.
var evictors = sync.Pool{New: func() any { return &evictor{} }}

// release gives the evictor back. Nothing that it returned refers to its memory.
func (e *evictor) release() {
	e.node, e.request, e.given, e.allowed, e.together = nil, nil, nil, nil, nil
	evictors.Put(e)
}

// newEvictor prepares the searches for a node and a request, and is to be released; nil if nothing can be planned.
func newEvictor(n *alloc.Node, r *alloc.Request, victims []Victim, budgets []int) *evictor {
	if !alloc.CanEverFit(n, r) {
		return nil
	}
	e := evictors.Get().(*evictor)
	*e = evictor{
		node: alloc.ByUUID(n), request: r, given: victims, allowed: budgets,
		victims: e.victims[:0], frees: e.frees[:0], loads: e.loads[:0], allLoads: e.allLoads[:0],
		orders: e.orders[:0], dearest: e.dearest[:0], inferior: e.inferior[:0], budgets: e.budgets[:0],
		spare: append(e.spare, e.searches...), searches: e.searches[:0],
	}
	for _, allowed := range budgets {
		e.budgets = append(e.budgets, max(allowed, 0))
	}
	e.together = alloc.Together(e.node, r.MixedModels())
	e.addVictims(n)
	e.findSafe()
	e.orderByPrice()
	e.addLoads()
	return e
}

// addLoads fills loads, of all devices in one array.
func (e *evictor) addLoads() {
	e.allLoads = slices.Grow(e.allLoads, e.loadCount)
	for d := range e.node.Devices {
		from := len(e.allLoads)
		for v := range e.victims {
			for _, f := range e.victims[v].frees {
				if int(f.device) == d {
					e.allLoads = append(e.allLoads, load{victim: v, amount: f.amount, id: f.load})
				}
			}
		}
		e.loads = append(e.loads, e.allLoads[from:len(e.allLoads):len(e.allLoads)])
	}
}

// addVictims keeps the victims that free anything on a device that can be used, in the order of names.
func (e *evictor) addVictims(n *alloc.Node) {
	charges := 0
	for i := range e.given {
		charges += len(e.given[i].Frees)
	}
	e.victims, e.frees = slices.Grow(e.victims, len(e.given)), slices.Grow(e.frees, charges)
	for i := range e.given {
		v := victim{given: i, frees: e.frees[len(e.frees):]}
		for _, c := range e.given[i].Frees {
			if c.Device < 0 || c.Device >= len(n.Devices) || c.Memory.IsZero() {
				continue
			}
			at := c.Device
			if e.node != n {
				at = e.node.Position(n.Devices[at].UUID)
			}
			if e.node.Devices[at].Blocked == "" {
				v.free(uint8(at), min(c.Memory.Uint64(), maxFreed))
			}
		}
		if len(v.frees) == 0 {
			continue
		}
		e.frees = e.frees[:len(e.frees)+len(v.frees)]
		for j, b := range e.given[i].Budgets {
			if b >= 0 && b < len(e.budgets) && !slices.Contains(e.given[i].Budgets[:j], b) {
				v.budgets = append(v.budgets, b)
			}
		}
		e.victims = append(e.victims, v)
	}
	if len(e.victims) > MaxVictims {
		slices.SortFunc(e.victims, e.worthier)
		e.victims, e.truncated = e.victims[:MaxVictims], true
	}
	slices.SortFunc(e.victims, func(a, b victim) int {
		return cmp.Or(cmp.Compare(e.given[a.given].Name, e.given[b.given].Name), cmp.Compare(a.given, b.given))
	})
	for v := range e.victims {
		for i := range e.victims[v].frees {
			e.victims[v].frees[i].load = e.loadCount
			e.loadCount++
		}
	}
}

// free adds what the victim frees on a device.
func (v *victim) free(device uint8, amount uint64) {
	for i := range v.frees {
		if v.frees[i].device == device {
			v.frees[i].amount = min(v.frees[i].amount+amount, maxFreed)
			return
		}
	}
	v.frees = append(v.frees, freed{device: device, amount: amount})
	v.on |= 1 << device
}

// worthier orders victims by who is to be considered if there are too many: without a budget at stake, of low
// priority, idle, large.
func (e *evictor) worthier(a, b victim) int {
	total := func(v *victim) (sum uint64) {
		for _, f := range v.frees {
			sum += f.amount
		}
		return sum
	}
	class := func(v *victim) Cost {
		c := e.given[v.given].alone()
		return Cost{Violations: e.exhausted(v), Priority: c.Priority, Active: c.Active, Pinned: c.Pinned}
	}
	return cmp.Or(
		class(&a).Compare(class(&b)),
		cmp.Compare(total(&b), total(&a)),
		cmp.Compare(e.given[a.given].Name, e.given[b.given].Name),
	)
}

// exhausted counts the victim's budgets that allow no more evictions.
func (e *evictor) exhausted(v *victim) int {
	n := 0
	for _, b := range v.budgets {
		if e.budgets[b] == 0 {
			n++
		}
	}
	return n
}

func fromBool(b bool) int {
	if b {
		return 1
	}
	return 0
}

// findSafe finds the victims whose budgets allow all their victims to go.
func (e *evictor) findSafe() {
	members := make([]int, len(e.budgets))
	for i := range e.victims {
		for _, b := range e.victims[i].budgets {
			members[b]++
		}
	}
	for v := range e.victims {
		safe := true
		for _, b := range e.victims[v].budgets {
			safe = safe && members[b] <= e.budgets[b]
		}
		if safe {
			e.safe.add(v)
		} else {
			e.unsafe = true
		}
	}
}

// orderByPrice fills orders and dearest.
func (e *evictor) orderByPrice() {
	e.dearest, e.orders = slices.Grow(e.dearest, len(e.victims)), slices.Grow(e.orders, len(e.victims))
	for v := range e.victims {
		c := e.of(v).alone()
		c.Violations = fromBool(!e.safe.has(v))
		e.dearest, e.orders = append(e.dearest, v), append(e.orders, c.order())
	}
	slices.SortFunc(e.dearest, func(a, b int) int {
		return cmp.Or(e.orders[b].compare(&e.orders[a]), cmp.Compare(b, a))
	})
}

// inferiorTo returns v and all victims in whose place v could go at no more cost and with nothing missing: so a set
// that has one of them but not v is not the best.
func (e *evictor) inferiorTo(v int) *victimSet {
	if len(e.inferior) == 0 {
		e.inferior = zeroed(e.inferior, len(e.victims))
	}
	set := &e.inferior[v]
	if !set.has(v) {
		set.add(v)
		for u := v + 1; u < len(e.victims); u++ {
			if e.victims[u].on&^e.victims[v].on == 0 && e.preferred(v, u) {
				set.add(u)
			}
		}
	}
	return set
}

// preferred says whether v, whose name comes first, is as good a victim as u in every respect.
func (e *evictor) preferred(v, u int) bool {
	if !e.orders[v].atMost(&e.orders[u]) {
		return false
	}
	for _, budget := range e.victims[v].budgets {
		if !slices.Contains(e.victims[u].budgets, budget) {
			return false
		}
	}
	for _, f := range e.victims[u].frees {
		if !slices.ContainsFunc(e.victims[v].frees, func(g freed) bool { return g.device == f.device && g.amount >= f.amount }) {
			return false
		}
	}
	return true
}

// all returns the set of all victims.
func (e *evictor) all() (set victimSet) {
	for v := range e.victims {
		set.add(v)
	}
	return set
}

// pricing says which parts of a cost count.
type pricing int

const (
	violationsOnly pricing = iota
	violationsAndActive
	wholePrice
)

// priceBy prices the victims, but for violations, which depend on the others that go.
func (e *evictor) priceBy(by pricing) {
	for i := range e.victims {
		v := &e.victims[i]
		var c Cost
		alone := e.given[v.given].alone()
		if by >= violationsAndActive {
			c.Active, c.Pinned = alone.Active, alone.Pinned
		}
		if by == wholePrice {
			c.Victims, c.Reload = alone.Victims, alone.Reload.Min(alloc.BytesOf(maxReload))
		}
		v.part = c.part()
		v.price = v.part.times(priceParts)
	}
}

// priceOf returns the price of a set, violations included.
func (e *evictor) priceOf(set *victimSet) (sum price) {
	for v := range e.victims {
		if set.has(v) {
			sum = sum.plus(e.victims[v].price)
		}
	}
	if e.unsafe {
		for b, allowed := range e.budgets {
			if over := e.countIn(set, b) - allowed; over > 0 {
				sum = sum.plus(violationPrice(over))
			}
		}
	}
	return sum
}

// countIn counts the victims of the set that are in the budget.
func (e *evictor) countIn(set *victimSet, budget int) int {
	n := 0
	for v := range e.victims {
		if set.has(v) && slices.Contains(e.victims[v].budgets, budget) {
			n++
		}
	}
	return n
}
