// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

// chargeEvenly charges every victim evenly on the devices on which what it frees is needed, or on as many of them as can
// be chosen, and computes the covers of all devices.
func (s *search) chargeEvenly() {
	s.weight, s.charge = zeroed(s.weight, s.loadCount), zeroed(s.charge, s.loadCount)
	for v := range s.victims {
		span := 0
		for _, f := range s.victims[v].frees {
			if s.useful>>f.device&1 == 1 {
				span++
			}
		}
		if span == 0 {
			continue
		}
		even := priceParts / uint64(min(span, len(s.option.Shares)))
		for _, f := range s.victims[v].frees {
			if s.useful>>f.device&1 == 1 {
				s.weight[f.load] = even
			}
		}
	}
	s.recharge()
}

// recharge computes all charges, and all covers from them.
func (s *search) recharge() {
	s.chargeAll()
	for at := range s.devices {
		s.coverAgain(at)
	}
}

// chargeAll computes all charges from the weights and what is decided.
func (s *search) chargeAll() {
	for v := range s.victims {
		part := s.victims[v].part
		if n := s.violationsBy(v, true); n > 0 {
			part = part.plus(partOf(uint64(n)*violationClass, 0))
		}
		for _, f := range s.victims[v].frees {
			s.charge[f.load] = part.times(int(s.weight[f.load]))
		}
	}
}

// sharpenings is how often the weights are adapted; more raise the bound by less than they cost.
const sharpenings = 12

// sharpen adapts the weights to raise the bound, by a subgradient method: a victim is charged more where the matching
// uses it, and less where it does not. And it drops the devices that no set of victims as cheap as the best known can
// use, so that nobody is charged there.
func (s *search) sharpen() {
	var best price
	kept := false
	for round := range sharpenings {
		least, victims, ok := s.bound()
		if !ok {
			return
		}
		s.improve(s.trimmed(victims))
		if !kept || best.less(least) {
			best, kept = least, true
			s.bestWeight = append(s.bestWeight[:0], s.weight...)
		}
		below := s.best.price.plus(price{lo: 1})
		if !least.less(below) || !least.less(s.priceOf(&victims)) {
			return
		}
		s.drop(least, below)
		s.adapt(&victims, uint64(2+round/2))
		s.recharge()
	}
	if least, _, _ := s.bound(); !best.less(least) {
		copy(s.weight, s.bestWeight)
		s.recharge()
	}
}

// drop drops the devices that cannot be part of a set that costs less than below; least is the bound.
func (s *search) drop(least, below price) {
	if len(s.levels) > 1 {
		return
	}
	dearest := s.match.device[len(s.match.device)-1]
	without := least.minus(s.covers[dearest].price)
	for at, d := range s.devices {
		if s.demand[at] != noDemand && s.covers[at].price.less(noPrice) && !without.plus(s.covers[at].price).less(below) {
			s.demand[at] = noDemand
			s.useful &^= 1 << d
		}
	}
}

// adapt moves 1/step of what the victims are charged elsewhere to the devices of the last matching that use them. The new
// weights are a mean of the old ones and of such that charge all there, so that on devices that can be chosen at once
// they add up to priceParts at most, as both of these do.
func (s *search) adapt(victims *victimSet, step uint64) {
	for v := range s.victims {
		if !victims.has(v) {
			continue
		}
		frees := s.victims[v].frees
		used, paid := s.usedOn(v)
		n := uint64(0)
		for _, f := range frees {
			n += used >> f.device & 1
		}
		if n == 0 || paid >= priceParts {
			continue
		}
		for _, f := range frees {
			switch w := &s.weight[f.load]; {
			case s.useful>>f.device&1 == 0:
				*w = 0
			case used>>f.device&1 == 1:
				*w += (priceParts - paid) / step / n
			default:
				*w -= *w / step
			}
		}
	}
}

// usedOn returns the devices of the last matching that use the victim, and what it is charged there.
func (s *search) usedOn(v int) (devices, weight uint64) {
	for i, at := range s.match.device {
		if s.covers[at*len(s.levels)+s.levelOf[i]].victims.has(v) {
			devices |= 1 << s.devices[at]
		}
	}
	for _, f := range s.victims[v].frees {
		if devices>>f.device&1 == 1 {
			weight += s.weight[f.load]
		}
	}
	return devices, weight
}
