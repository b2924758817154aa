// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"math"
	"slices"
	"sort"
)

// cheapest returns the cheapest set of these victims, whether that is proven, and whether there is any. It may take
// one part of the steps. Of sets that cost more than the ceiling, if there is one, it may return none.
func (e *evictor) cheapest(among *victimSet, parts int, most *ceiling) (set victimSet, exact, ok bool) {
	if !e.fits(among) {
		return victimSet{}, false, false
	}
	if e.fits(&victimSet{}) {
		return victimSet{}, true, true
	}
	full := fullSteps / parts
	e.classSteps, e.refineSteps = classSteps/parts, refineSteps/parts
	violations, exact := e.fewestViolations(among)
	limit, limitExact := e.lowestPriority(among, violations)
	exact = exact && limitExact
	open := e.upToPriority(among, limit)
	below, within := most.below(violations, limit)
	if !within && exact {
		return victimSet{}, false, false
	}
	if !e.run(&open, wholePrice, &full, below) {
		if below != noPrice {
			// Whether one below the ceiling was missed is not known: what is best of all then stands.
			return e.cheapest(among, parts, nil)
		}
		return e.settle(&open, e.best.victims), false, true
	}
	if !e.best.any || below != noPrice && most.isReached(e, &open, below) {
		return victimSet{}, false, false
	}
	set, refined := e.refine(&open, e.best)
	return set, exact && refined, true
}

// below returns the price that a set of so many violations and of that priority has to stay below: none if it is
// within the ceiling in any case. It is not within if it is above in any case.
func (c *ceiling) below(violations price, priority int32) (limit price, within bool) {
	if c == nil {
		return noPrice, true
	}
	if least := violationPrice(c.Violations); least != violations {
		return noPrice, violations.less(least)
	}
	if c.Priority != priority {
		return noPrice, priority < c.Priority
	}
	return c.part().times(priceParts).plus(price{lo: 1}), true
}

// isReached says whether the best set found is of the ceiling's price, the last below the limit, and no other of that
// price can be below the ceiling by its last use: what is left to tell them apart.
func (c *ceiling) isReached(e *evictor, open *victimSet, limit price) bool {
	if c.orEqual || e.best.price.plus(price{lo: 1}) != limit {
		return false
	}
	for v := range e.victims {
		if open.has(v) && e.of(v).LastActive < c.LastActive {
			return false
		}
	}
	return true
}

// fewestViolations returns the price of the fewest violations of disruption budgets.
func (e *evictor) fewestViolations(among *victimSet) (least price, exact bool) {
	if safe := e.safeOf(among); e.fits(&safe) {
		return price{}, true
	}
	// The whole price leads to the answer sooner than violations alone, of which most victims have none.
	exact = e.run(among, wholePrice, &e.classSteps, noPrice)
	return violationPrice(int(e.best.price.class() / violationClass)), exact
}

// lowestPriority returns the lowest priority such that victims up to it are enough, at no more violations.
func (e *evictor) lowestPriority(among *victimSet, violations price) (limit int32, exact bool) {
	priorities := make([]int32, 0, len(e.victims))
	for v := range e.victims {
		if among.has(v) {
			priorities = append(priorities, e.of(v).Priority)
		}
	}
	slices.Sort(priorities)
	priorities = slices.Compact(priorities)
	exact = true
	enough := violations.plus(price{lo: 1}) // whatever is less than this will do
	at := sort.Search(len(priorities)-1, func(i int) bool {
		open := e.upToPriority(among, priorities[i])
		if !e.fits(&open) {
			return false
		}
		if safe := e.safeOf(&open); e.fits(&safe) {
			return true
		}
		exact = e.run(&open, violationsOnly, &e.classSteps, enough) && exact
		return e.best.any
	})
	return priorities[at], exact
}

// settle returns the set of an unfinished search if no other is of a better class, else one that is. Victims of one
// class need not be told apart for that, so it ends where the search for the whole price did not.
func (e *evictor) settle(open *victimSet, unproven victimSet) victimSet {
	e.priceBy(violationsAndActive)
	e.run(open, violationsAndActive, &e.classSteps, e.priceOf(&unproven))
	if e.best.any {
		unproven = e.best.victims
	}
	set, _ := e.reduce(unproven)
	return set
}

// unusedSince returns those last active then or earlier.
func (e *evictor) unusedSince(among *victimSet, since int64) (set victimSet) {
	for v := range e.victims {
		if among.has(v) && e.of(v).LastActive <= since {
			set.add(v)
		}
	}
	return set
}

// upToPriority returns those of at most that priority.
func (e *evictor) upToPriority(among *victimSet, limit int32) (set victimSet) {
	for v := range e.victims {
		if among.has(v) && e.of(v).Priority <= limit {
			set.add(v)
		}
	}
	return set
}

// safeOf returns those that violate no budget though all of them go.
func (e *evictor) safeOf(among *victimSet) victimSet {
	safe := e.safe
	for i := range safe {
		safe[i] &= among[i]
	}
	return safe
}

// lastActive returns when the most recently used victim of the set was.
func (e *evictor) lastActive(set *victimSet) int64 {
	latest := int64(math.MinInt64)
	for v := range e.victims {
		if set.has(v) {
			latest = max(latest, e.of(v).LastActive)
		}
	}
	return latest
}
