// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"cmp"
	"slices"
)

// maxFreed bounds what one victim frees on one device, so that MaxVictims of them add up without overflow.
const maxFreed = 1 << 54

// newEvictor prepares the searches for a node and a request; nil if nothing can be planned.
func newEvictor(n *Node, r *Request, victims []Victim, budgets []int) *evictor {
	if !plannable(n) || !CanEverFit(n, r) {
		return nil
	}
	e := &evictor{node: byUUID(n), request: r, given: victims, allowed: budgets, budgets: make([]int, len(budgets))}
	for b, allowed := range budgets {
		e.budgets[b] = max(allowed, 0)
	}
	e.addVictims(n)
	e.findSafe()
	e.orderByPrice()
	e.loads = make([][]load, len(e.node.Devices))
	for v := range e.victims {
		for _, f := range e.victims[v].frees {
			e.loads[f.device] = append(e.loads[f.device], load{victim: v, amount: f.amount})
		}
	}
	e.tree = search{
		evictor: e, count: make([]int, len(budgets)), strict: make([]bool, len(budgets)),
		part: make([]price, len(e.victims)),
		span: make([]int, len(e.victims)),
	}
	return e
}

// addVictims keeps the victims that free anything on a device that can be used, in the order of names.
func (e *evictor) addVictims(n *Node) {
	e.victims = make([]victim, 0, len(e.given))
	for i := range e.given {
		v := victim{given: i}
		for _, c := range e.given[i].Frees {
			if c.Device < 0 || c.Device >= len(n.Devices) || c.Memory.IsZero() {
				continue
			}
			at := c.Device
			if e.node != n {
				at = e.node.position(n.Devices[at].UUID)
			}
			if e.node.Devices[at].Blocked == "" {
				v.free(uint8(at), min(c.Memory.n, maxFreed))
			}
		}
		if len(v.frees) == 0 {
			continue
		}
		for j, b := range e.given[i].Budgets {
			if b >= 0 && b < len(e.budgets) && !slices.Contains(e.given[i].Budgets[:j], b) {
				v.budgets = append(v.budgets, b)
			}
		}
		e.victims = append(e.victims, v)
	}
	if len(e.victims) > MaxVictims {
		slices.SortFunc(e.victims, e.worthier)
		e.victims = e.victims[:MaxVictims]
	}
	slices.SortFunc(e.victims, func(a, b victim) int {
		return cmp.Or(cmp.Compare(e.given[a.given].Name, e.given[b.given].Name), cmp.Compare(a.given, b.given))
	})
}

// free adds what the victim frees on a device.
func (v *victim) free(device uint8, amount uint64) {
	for i := range v.frees {
		if v.frees[i].device == device {
			v.frees[i].amount = min(v.frees[i].amount+amount, maxFreed)
			return
		}
	}
	v.frees = append(v.frees, freed{device, amount})
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
	x, y := &e.given[a.given], &e.given[b.given]
	return cmp.Or(
		cmp.Compare(e.exhausted(&a), e.exhausted(&b)),
		cmp.Compare(x.Priority, y.Priority),
		cmp.Compare(fromBool(y.Idle), fromBool(x.Idle)),
		cmp.Compare(total(&b), total(&a)),
		cmp.Compare(x.Name, y.Name),
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

// orderByPrice fills dearest.
func (e *evictor) orderByPrice() {
	e.dearest = make([]int, len(e.victims))
	for v := range e.dearest {
		e.dearest[v] = v
	}
	slices.SortFunc(e.dearest, func(a, b int) int {
		x, y := e.of(a), e.of(b)
		return cmp.Or(
			cmp.Compare(fromBool(e.safe.has(a)), fromBool(e.safe.has(b))),
			cmp.Compare(y.Priority, x.Priority),
			cmp.Compare(fromBool(x.Idle), fromBool(y.Idle)),
			y.Reload.Compare(x.Reload),
			cmp.Compare(y.LastActive, x.LastActive),
			cmp.Compare(b, a),
		)
	})
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
	classOnly
	wholeCost
)

// priceBy prices the victims, but for violations, which depend on the others that go.
func (e *evictor) priceBy(by pricing) {
	for i := range e.victims {
		v := &e.victims[i]
		given := &e.given[v.given]
		v.price = price{}
		if by == classOnly && !given.Idle {
			v.price[0] = shareable // active victims; the unit is of no matter
		}
		if by == wholeCost && !given.Idle {
			v.price[0] += activeUnit
		}
		if by == wholeCost {
			v.price[0] += victimUnit
			v.price[1] = min(given.Reload.n, maxFreed)
			v.price[2], v.price[3] = nameWords(i)
			v.price = v.price.rounded()
		}
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
			sum[0] += uint64(max(e.countIn(set, b)-allowed, 0)) * violationUnit
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
