// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import "github.com/berth-dev/berth/pkg/alloc"

// search finds the cheapest set of victims after which one option fits on some of the devices that may be used together.
//
// It is branch and bound over victims. The bound splits the price of each victim over the devices on which it frees
// memory that is needed: first evenly, over as many of them as can be chosen, then so that the bound rises (sharpen). So every device has a price of its own: that
// of the cheapest victims that free enough there (a coverer finds them). The cheapest devices, or matching of unequal
// shares to devices, is then never dearer than the cheapest set of victims. If the victims of that matching cost no
// more than the bound, they are the answer; else one is, because of a victim that is paid for in part only, or because
// of a disruption budget, and the search branches on that victim: with it, and without it.
type search struct {
	*evictor
	option *alloc.Option
	// devices are the positions of those that could hold the smallest share if they were empty.
	devices []uint8
	// levels are the first shares of each size, and levelOf[i] the level of share i.
	levels, levelOf []int
	// demand is what must be freed for each device and level: demand[device × levels + level]; noDemand = never.
	demand []uint64
	// covers is the cheapest way to free it, given what is decided.
	covers []cover

	// in and out are the victims that are decided on, freed what those in give back by device, count how many of them
	// are in each budget, and spent their price.
	in, out victimSet
	freed   [alloc.MaxDevices]uint64
	count   []int
	spent   price
	// decisions and saved are what to undo, last first.
	decisions []decision
	saved     []savedCover
	// strict says for a budget that every victim of it is charged as a violation and what the budget still allows is
	// taken off the sum: another lower bound, which is the better one where a budget is the bottleneck.
	strict []bool
	// weight is how many of the priceParts parts of a victim's price are charged on a device, and charge what they
	// cost, by load. Over the devices that can be chosen at once, the weights of a victim add up to priceParts at most.
	weight, bestWeight []uint64
	charge             []price
	// useful are the devices, as bits, for which somebody may have to go.
	useful uint64

	// match chooses devices for shares at the least sum of covers, and cover finds the covers.
	match matcher
	cover coverer
}

// decision is what undo needs to know of one.
type decision struct {
	victim    int
	in        bool
	exhausted bool // a budget became so
	spent     price
	out       victimSet
	mark      int // where its saved covers begin
}

type savedCover struct {
	at    int
	cover cover
}

const noDemand = 1<<64 - 1

// begin prepares the search for an option on devices that may be used together; false means that it could not fit whoever goes.
func (s *search) begin(o *alloc.Option, together uint64) bool {
	s.option = o
	s.devices, s.levels, s.levelOf = s.devices[:0], s.levels[:0], s.levelOf[:0]
	s.in, s.out, s.freed, s.spent = victimSet{}, victimSet{}, [alloc.MaxDevices]uint64{}, price{}
	s.demand, s.decisions, s.saved = s.demand[:0], s.decisions[:0], s.saved[:0]
	s.count, s.strict = zeroed(s.count, len(s.budgets)), zeroed(s.strict, len(s.budgets))
	for i := range o.Shares {
		if i == 0 || o.Shares[i] != o.Shares[i-1] {
			s.levels = append(s.levels, i)
		}
		s.levelOf = append(s.levelOf, len(s.levels)-1)
	}
	for i := range s.node.Devices {
		d := &s.node.Devices[i]
		if d.Blocked == "" && together>>i&1 == 1 && o.Room(d, d.Capacity) > 0 {
			s.devices = append(s.devices, uint8(i))
			for _, share := range s.levels {
				s.demand = append(s.demand, demandOf(d, o.Needs(share, d)))
			}
		}
	}
	if len(s.devices) < len(o.Shares) {
		return false
	}
	s.match.shares, s.match.devices = len(o.Shares), len(s.devices)
	s.match.price = func(i, j int) price { return s.covers[j*len(s.levels)+s.levelOf[i]].price }
	s.covers = zeroed(s.covers, len(s.demand))
	s.useful = 0
	for at, d := range s.devices {
		demand := s.demand[at*len(s.levels) : (at+1)*len(s.levels)]
		if demand[0] > 0 && demand[len(demand)-1] != noDemand {
			s.useful |= 1 << d
		}
	}
	s.chargeEvenly()
	return true
}

// zeroed returns n zero values, in the same memory if it is enough.
func zeroed[T any](s []T, n int) []T {
	return append(s[:0], make([]T, n)...)
}

// demandOf returns how much must be freed on a device so that it can hold needed.
func demandOf(d *alloc.Device, needed alloc.Bytes) uint64 {
	if d.Capacity.Less(needed) {
		return noDemand
	}
	return d.Used.Minus(d.Capacity.Minus(needed)).Uint64()
}

// violationsBy counts the violations that one more victim adds; assumed also counts those of strict budgets that are
// not exhausted yet.
func (s *search) violationsBy(v int, assumed bool) (violations int) {
	for _, b := range s.victims[v].budgets {
		if s.count[b] >= s.budgets[b] || assumed && s.strict[b] {
			violations++
		}
	}
	return violations
}

// coverAgain computes the covers of one device again.
func (s *search) coverAgain(at int) {
	d := s.devices[at]
	c := &s.cover
	c.steps = &s.steps
	c.loads = c.loads[:0]
	prepared := false
	for level := range s.levels {
		need := s.demand[at*len(s.levels)+level]
		to := &s.covers[at*len(s.levels)+level]
		switch {
		case need == noDemand:
			*to = cover{price: noPrice}
			continue
		case need <= s.freed[d]:
			*to = cover{}
			continue
		}
		if !prepared {
			prepared = true
			for _, l := range s.loads[d] {
				if s.open.has(l.victim) && !s.in.has(l.victim) && !s.out.has(l.victim) {
					c.loads = append(c.loads, load{l.victim, l.amount, l.id, s.charge[l.id]})
				}
			}
			c.prepare()
		}
		*to = c.cheapestFor(need - s.freed[d])
	}
}

// bound matches shares to devices at the least sum of prices, and returns a lower bound for every set of victims
// that agrees with what is decided, and the victims of the matching together with those decided on.
func (s *search) bound() (least price, victims victimSet, ok bool) {
	if len(s.levels) == 1 {
		least, ok = s.match.alike()
	} else {
		least, ok = s.match.unlike()
	}
	if !ok {
		return price{}, victimSet{}, false
	}
	victims = s.in
	for i, at := range s.match.device {
		victims.addAll(&s.covers[at*len(s.levels)+s.levelOf[i]].victims)
	}
	least = least.plus(s.spent)
	for b, strict := range s.strict {
		if allowed := s.budgets[b] - s.count[b]; strict && allowed > 0 {
			least = least.minus(violationPrice(allowed))
		}
	}
	return least, victims, true
}

// explore searches everything that is left to decide, and improves s.best.
func (s *search) explore() {
	if s.steps -= len(s.devices); s.steps < 0 {
		return
	}
	least, victims, ok := s.bound()
	if !ok || !least.less(s.best.price) {
		return
	}
	price := s.priceOf(&victims)
	if victims == s.in || !least.less(price) {
		s.improve(victims, price)
		return
	}
	s.improve(s.trimmed(victims))

	mark := len(s.saved)
	tightened := s.tighten(&victims)
	if len(tightened) > 0 {
		if stricter, others, _ := s.bound(); least.less(stricter) {
			victims, least = others, stricter
		} else {
			s.loosen(tightened, mark)
			tightened = nil
			s.bound() // whose matching the choice of a branch looks at
		}
	}
	if v := s.branchOn(&victims); v >= 0 && least.less(s.best.price) {
		s.include(v)
		s.explore()
		s.undo()
		s.exclude(v)
		s.explore()
		s.undo()
	}
	s.loosen(tightened, mark)
}

// trimmed drops the victims, dearest first, that the devices of the last matching can do without, but for those that
// are decided on.
func (s *search) trimmed(victims victimSet) (victimSet, price) {
	var surplus [alloc.MaxDevices]uint64
	var matched uint64
	for i, at := range s.match.device {
		d := s.devices[at]
		matched |= 1 << d
		surplus[d] = -s.demand[at*len(s.levels)+s.levelOf[i]] // wraps around until the victims are added
	}
	for v := range s.victims {
		if victims.has(v) {
			for _, f := range s.victims[v].frees {
				surplus[f.device] += f.amount
			}
		}
	}
	for _, v := range s.dearest {
		if !victims.has(v) || s.in.has(v) {
			continue
		}
		needed := false
		for _, f := range s.victims[v].frees {
			needed = needed || matched>>f.device&1 == 1 && surplus[f.device] < f.amount
		}
		if needed {
			continue
		}
		victims.remove(v)
		for _, f := range s.victims[v].frees {
			surplus[f.device] -= f.amount
		}
	}
	return victims, s.priceOf(&victims)
}

// branchOn chooses the victim to decide on: the one of the last matching of which most is unpaid, else one of a
// budget that is violated unpaid, else any; -1 if all are decided.
func (s *search) branchOn(victims *victimSet) int {
	chosen, most := -1, price{}
	for v := range s.victims {
		if !victims.has(v) || s.in.has(v) {
			continue
		}
		_, paid := s.usedOn(v)
		unpaid := s.victims[v].part.times(int(priceParts - min(paid, priceParts)))
		if chosen < 0 || most.less(unpaid) {
			chosen, most = v, unpaid
		}
	}
	if most != (price{}) {
		return chosen
	}
	for v := range s.victims {
		if !victims.has(v) || s.in.has(v) {
			continue
		}
		for _, b := range s.victims[v].budgets {
			if s.count[b] < s.budgets[b] && s.countIn(victims, b) > s.budgets[b] {
				return v
			}
		}
	}
	return chosen
}
