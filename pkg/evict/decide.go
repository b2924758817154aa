// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

// include decides that victim v goes.
func (s *search) include(v int) {
	d := decision{victim: v, in: true, spent: s.spent, mark: len(s.saved)}
	s.spent = s.spent.plus(s.victims[v].price).plus(violationPrice(s.violationsBy(v, false)))
	s.in.add(v)
	for _, f := range s.victims[v].frees {
		s.freed[f.device] += f.amount
	}
	for _, b := range s.victims[v].budgets {
		s.count[b]++
		d.exhausted = d.exhausted || s.count[b] == s.budgets[b]
	}
	for at, device := range s.devices {
		if d.exhausted || s.victims[v].on>>device&1 == 1 {
			s.save(at)
		}
	}
	if d.exhausted {
		s.recharge()
	} else {
		s.coverSavedAgain(d.mark)
	}
	s.decisions = append(s.decisions, d)
}

// exclude decides that victim v stays, and with it all to which it would be preferred.
func (s *search) exclude(v int) {
	d := decision{victim: v, spent: s.spent, mark: len(s.saved), out: s.out}
	s.out.addAll(s.inferiorTo(v))
	for i := range s.out {
		s.out[i] &^= s.in[i]
	}
	for at := range s.devices {
		for level := range s.levels {
			// Covers that do without them stay the cheapest.
			if s.covers[at*len(s.levels)+level].victims.overlaps(&s.out) {
				s.save(at)
				break
			}
		}
	}
	s.coverSavedAgain(d.mark)
	s.decisions = append(s.decisions, d)
}

// undo takes the last decision back.
func (s *search) undo() {
	d := s.decisions[len(s.decisions)-1]
	s.decisions = s.decisions[:len(s.decisions)-1]
	if !d.in {
		s.out = d.out
		s.restore(d.mark)
		return
	}
	for _, b := range s.victims[d.victim].budgets {
		s.count[b]--
	}
	for _, f := range s.victims[d.victim].frees {
		s.freed[f.device] -= f.amount
	}
	s.in.remove(d.victim)
	s.spent = d.spent
	if d.exhausted {
		s.chargeAll()
	}
	s.restore(d.mark)
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
		for at := range s.devices {
			s.save(at)
		}
		s.recharge()
	}
	return budgets
}

// loosen undoes tighten; mark is where its saved covers begin.
func (s *search) loosen(budgets []int, mark int) {
	if len(budgets) == 0 {
		return
	}
	for _, b := range budgets {
		s.strict[b] = false
	}
	s.chargeAll()
	s.restore(mark)
}

// save keeps the covers of a device for restore.
func (s *search) save(at int) {
	for i := at * len(s.levels); i < (at+1)*len(s.levels); i++ {
		s.saved = append(s.saved, savedCover{i, s.covers[i]})
	}
}

// coverSavedAgain computes again what was saved since the mark.
func (s *search) coverSavedAgain(mark int) {
	for i := mark; i < len(s.saved); i += len(s.levels) {
		s.coverAgain(s.saved[i].at / len(s.levels))
	}
}

// restore puts back what was saved since the mark.
func (s *search) restore(mark int) {
	for _, c := range s.saved[mark:] {
		s.covers[c.at] = c.cover
	}
	s.saved = s.saved[:mark]
}
