// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

// search finds the cheapest set of victims after which one option fits on the devices of one group.
//
// It is branch and bound over victims. The bound shares the price of each victim evenly over the devices on which it
// frees memory that is needed, so that every device has a price of its own: that of the cheapest victims that free
// enough there (a coverer finds them). The cheapest devices, or matching of unequal shares to devices, is then never
// dearer than the cheapest set of victims. If the victims of that matching cost no more than the bound, they are the
// answer; else one is, because of a victim that is paid for in part only, or because of a disruption budget, and the
// search branches on that victim: with it, and without it.
type search struct {
	*evictor
	option *Option
	// devices are the positions of those that could hold the smallest share if they were empty.
	devices []uint8
	// levels are the first shares of each size.
	levels []int
	// levelOf[i] is the level of share i.
	levelOf []int
	// demand is what must be freed for each device and level: demand[device × levels + level]; noDemand = never.
	demand []uint64
	// covers is the cheapest way to free it, given what is decided.
	covers []cover
	// saved holds the covers to put back when a branch is done.
	saved []savedCover

	// in and out are the victims that are decided on, freed what those in give back by device, count how many of them
	// are in each budget, and spent their price.
	in, out victimSet
	freed   [MaxDevices]uint64
	count   []int
	spent   price
	// strict says for a budget that every victim of it is charged as a violation and what the budget still allows is
	// taken off the sum: another lower bound, which is the better one where a budget is the bottleneck.
	strict []bool
	// part is the price of a victim on each of its devices, and span how many such parts make up its price: the
	// number of its devices where something is needed, but no more than can be chosen.
	part []price
	span []int

	match matcher
	cover coverer
}

type savedCover struct {
	at    int
	cover cover
}

const noDemand = 1<<64 - 1

// begin prepares the search for an option and a group; false means that it could not fit whoever goes.
func (s *search) begin(o *Option, g group) bool {
	s.option = o
	s.devices, s.levels, s.levelOf = s.devices[:0], s.levels[:0], s.levelOf[:0]
	s.demand, s.covers, s.saved = s.demand[:0], s.covers[:0], s.saved[:0]
	s.in, s.out, s.freed, s.spent = victimSet{}, victimSet{}, [MaxDevices]uint64{}, price{}
	clear(s.count)
	clear(s.strict)
	for i := range o.Shares {
		if i == 0 || o.Shares[i] != o.Shares[i-1] {
			s.levels = append(s.levels, i)
		}
		s.levelOf = append(s.levelOf, len(s.levels)-1)
	}
	for i := range s.node.Devices {
		d := &s.node.Devices[i]
		if d.Blocked == "" && g.has(d) && o.room(d, d.Capacity) > 0 {
			s.devices = append(s.devices, uint8(i))
			for _, share := range s.levels {
				s.demand = append(s.demand, demandOf(d, o.On(share, d)))
			}
		}
	}
	if len(s.devices) < len(o.Shares) {
		return false
	}
	s.covers = append(s.covers, make([]cover, len(s.demand))...)
	for v := range s.victims {
		s.span[v] = 0
	}
	for at, d := range s.devices {
		if s.demand[at*len(s.levels)] == 0 { // has room for the largest share: nobody need go for its sake
			continue
		}
		for _, l := range s.loads[d] {
			s.span[l.victim] = min(s.span[l.victim]+1, len(o.Shares))
		}
	}
	for v := range s.victims {
		s.reprice(v)
	}
	s.match.shares, s.match.devices = len(o.Shares), len(s.devices)
	s.match.price = func(i, j int) price { return s.covers[j*len(s.levels)+s.levelOf[i]].price }
	for at := range s.devices {
		s.recover(at)
	}
	return true
}

// demandOf returns how much must be freed on a device so that it can hold needed.
func demandOf(d *Device, needed Bytes) uint64 {
	if d.Capacity.Less(needed) {
		return noDemand
	}
	return d.Used.Minus(d.Capacity.Minus(needed)).n
}

// reprice computes the price of a victim, given what is decided, and shares it out.
func (s *search) reprice(v int) {
	if s.span[v] == 0 {
		return
	}
	p := s.victims[v].price.plus(s.violationsBy(v, true))
	s.part[v] = p.sharedBy(s.span[v])
}

// violationsBy returns the price of the violations that one more victim adds; assumed also counts those of strict
// budgets that are not exhausted yet.
func (s *search) violationsBy(v int, assumed bool) price {
	var p price
	for _, b := range s.victims[v].budgets {
		if s.count[b] >= s.budgets[b] || assumed && s.strict[b] {
			p[0] += violationUnit
		}
	}
	return p
}

// recover computes the covers of one device again.
func (s *search) recover(at int) {
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
					c.loads = append(c.loads, load{l.victim, l.amount, s.part[l.victim]})
				}
			}
			c.prepare()
		}
		*to = c.cover(need - s.freed[d])
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
	for b := range s.budgets {
		if s.strict[b] {
			least[0] -= uint64(max(s.budgets[b]-s.count[b], 0)) * violationUnit
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
			victims = others
			if !stricter.less(s.best.price) {
				s.loosen(tightened, mark)
				return
			}
		} else {
			s.loosen(tightened, mark)
			tightened = nil
			s.bound() // whose matching the choice of a branch looks at
		}
	}
	if v := s.branchOn(&victims); v >= 0 {
		s.with(v)
		s.without(v)
	}
	s.loosen(tightened, mark)
}

// trimmed drops the victims, dearest first, that the devices of the last matching can do without.
func (s *search) trimmed(victims victimSet) (victimSet, price) {
	var surplus [MaxDevices]uint64
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
		if !victims.has(v) {
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

// with searches the branch in which victim v goes.
func (s *search) with(v int) {
	mark := len(s.saved)
	spent := s.spent
	s.spent = s.spent.plus(s.victims[v].price).plus(s.violationsBy(v, false))
	s.in.add(v)
	for _, f := range s.victims[v].frees {
		s.freed[f.device] += f.amount
	}
	exhausted := false
	for _, b := range s.victims[v].budgets {
		s.count[b]++
		exhausted = exhausted || s.count[b] == s.budgets[b]
	}
	for at := range s.devices {
		if exhausted || s.victims[v].on>>s.devices[at]&1 == 1 {
			s.save(at)
		}
	}
	if exhausted {
		s.repriceAll()
	}
	s.recoverSaved(mark)
	s.explore()
	s.restore(mark)
	for _, b := range s.victims[v].budgets {
		s.count[b]--
	}
	for _, f := range s.victims[v].frees {
		s.freed[f.device] -= f.amount
	}
	s.in.remove(v)
	s.spent = spent
	if exhausted {
		s.repriceAll()
	}
}

// without searches the branch in which victim v stays.
func (s *search) without(v int) {
	mark := len(s.saved)
	s.out.add(v)
	for at := range s.devices {
		for level := range s.levels {
			// Covers that do without it stay the cheapest.
			if s.covers[at*len(s.levels)+level].victims.has(v) {
				s.save(at)
				break
			}
		}
	}
	s.recoverSaved(mark)
	s.explore()
	s.restore(mark)
	s.out.remove(v)
}

// save keeps the covers of a device for restore.
func (s *search) save(at int) {
	for i := at * len(s.levels); i < (at+1)*len(s.levels); i++ {
		s.saved = append(s.saved, savedCover{i, s.covers[i]})
	}
}

// recoverSaved computes again what was saved since the mark.
func (s *search) recoverSaved(mark int) {
	for i := mark; i < len(s.saved); i += len(s.levels) {
		s.recover(s.saved[i].at / len(s.levels))
	}
}

// restore puts back what was saved since the mark.
func (s *search) restore(mark int) {
	for _, c := range s.saved[mark:] {
		s.covers[c.at] = c.cover
	}
	s.saved = s.saved[:mark]
}

func (s *search) repriceAll() {
	for v := range s.victims {
		s.reprice(v)
	}
}

// tighten makes the budgets strict that these victims would violate unpaid, and returns them.
func (s *search) tighten(victims *victimSet) []int {
	if !s.unsafe {
		return nil
	}
	var budgets []int
	for b, allowed := range s.budgets {
		if s.count[b] < allowed && !s.strict[b] && s.countIn(victims, b) > allowed {
			budgets = append(budgets, b)
			s.strict[b] = true
		}
	}
	if len(budgets) > 0 {
		mark := len(s.saved)
		for at := range s.devices {
			s.save(at)
		}
		s.repriceAll()
		s.recoverSaved(mark)
	}
	return budgets
}

// loosen undoes tighten.
func (s *search) loosen(budgets []int, mark int) {
	if len(budgets) == 0 {
		return
	}
	for _, b := range budgets {
		s.strict[b] = false
	}
	s.repriceAll()
	s.restore(mark)
}

// branchOn chooses the victim to decide on: the one of the last matching of which most is unpaid, else one of a
// budget that is violated unpaid, else any; -1 if all are decided.
func (s *search) branchOn(victims *victimSet) int {
	chosen, most := -1, price{}
	for v := range s.victims {
		if !victims.has(v) || s.in.has(v) {
			continue
		}
		var unpaid price
		for range s.span[v] {
			unpaid = unpaid.plus(s.part[v])
		}
		for i, at := range s.match.device {
			if s.covers[at*len(s.levels)+s.levelOf[i]].victims.has(v) {
				unpaid = unpaid.minus(s.part[v])
			}
		}
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
