// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import "slices"

// refine looks among the sets of the same price for the one that comes first by last use and by names. The searches
// must be those in which best was found. It returns whether it could look at all of them.
func (e *evictor) refine(open *victimSet, best found) (set victimSet, exact bool) {
	e.steps = e.refineSteps
	if e.onlyOne(best) {
		return best.victims, e.steps >= 0
	}
	e.refineSteps = e.steps
	best, limited, exact := e.leastRecentlyUsed(open, best)
	if !exact {
		return best.victims, false
	}
	e.open, e.steps, e.best = limited, e.refineSteps, best
	e.begin()
	best = e.firstByName(best)
	return best.victims, e.steps >= 0
}

// another searches for a set of open victims of no more than that price, given what is decided.
func (e *evictor) another(p price) bool {
	e.best = found{price: p.plus(price{lo: 1})}
	for _, s := range e.searches {
		s.explore()
		if e.best.any {
			return true
		}
	}
	return false
}

// onlyOne says whether there is no other set of that price: one that lacks the first of its victims, or has that but
// lacks the second, and so on. One that has them all is not as cheap.
func (e *evictor) onlyOne(best found) bool {
	decided, other := 0, false
	for v := range e.victims {
		if !best.victims.has(v) {
			continue
		}
		e.decide(v, false)
		other = e.another(best.price)
		e.undo()
		if other {
			break
		}
		e.decide(v, true)
		decided++
	}
	for range decided {
		e.undo()
	}
	return !other
}

// decide decides on a victim in all searches.
func (e *evictor) decide(v int, in bool) {
	for _, s := range e.searches {
		if in {
			s.include(v)
		} else {
			s.exclude(v)
		}
	}
}

// undo takes the last decision back in all searches.
func (e *evictor) undo() {
	for _, s := range e.searches {
		s.undo()
	}
}

// leastRecentlyUsed returns, of the sets of that price, one whose most recently used victim has been unused for
// longest, and the victims that have been unused for as long.
func (e *evictor) leastRecentlyUsed(open *victimSet, best found) (found, victimSet, bool) {
	latest := e.lastActive(&best.victims)
	times := make([]int64, 0, len(e.victims))
	for v := range e.victims {
		if t := e.of(v).LastActive; open.has(v) && t < latest {
			times = append(times, t)
		}
	}
	slices.Sort(times)
	times = slices.Compact(times)
	limit := latest
	// The earliest time that will do is at from or later, and at to if it is known to do.
	for from, to := 0, len(times); from < to; {
		at := (from + to) / 2
		longUnused := e.unusedSince(open, times[at])
		if !e.fits(&longUnused) {
			from = at + 1
			continue
		}
		if !e.run(&longUnused, wholePrice, &e.refineSteps, best.price.plus(price{lo: 1})) {
			return best, *open, false
		}
		if e.best.any {
			best, to, limit = e.best, at, times[at]
		} else {
			from = at + 1
		}
	}
	return best, e.unusedSince(open, limit), true
}

// firstByName returns, of the sets of that price, the one whose names come first. It goes through the names in order
// and keeps each that some set of the price has together with those kept before.
func (e *evictor) firstByName(best found) found {
	missing := best.victims.len()
	for v := range e.victims {
		if missing == 0 || e.steps < 0 {
			break
		}
		if !e.open.has(v) {
			continue
		}
		e.decide(v, true)
		if !best.victims.has(v) {
			if !e.another(best.price) {
				e.undo()
				e.decide(v, false)
				continue
			}
			best = e.best
		}
		missing--
	}
	return best
}
