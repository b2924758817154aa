// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import "math/bits"

// linkSteps bounds the search for the best linked set of one option. No node with up to 16 GPUs that are linked in
// pairs, rings or meshes comes near it; where it is reached, the best set found so far is taken, which is never
// one of a worse fit (in steps of 64 MiB), only perhaps one of fewer links.
const linkSteps = 1 << 14

// linkSearch looks among the sets that are as light as the lightest, in steps of 64 MiB, for the best by links.
type linkSearch struct {
	*finder
	option *Option
	best   choice
	// candidates are the devices that may be in the set, lightest first, and room what each could hold.
	candidates []uint8
	room       [MaxDevices]int
	// lightest[i] is the sum of the weights of the first i candidates.
	lightest [MaxDevices + 1]uint64
	// degree is the largest number of links that one candidate has to others.
	degree int
	taken  rooms
	steps  int
}

// withLinks returns the best set of the group by the documented order, given the lightest.
func (f *finder) withLinks(o *Option, g group, lightest choice) choice {
	k := len(o.Shares)
	if !f.linked || k < 2 || lightest.links == k*(k-1) {
		return lightest
	}
	s := linkSearch{
		finder: f, option: o, best: lightest, steps: linkSteps,
	}
	var candidates [MaxDevices]uint8
	s.candidates = candidates[:0]
	var all uint64
	for _, i := range f.order[:f.usable] {
		d := &f.node.Devices[i]
		if !g.has(d) {
			continue
		}
		if s.room[i] = o.Room(d, f.free[i]); s.room[i] > 0 {
			s.lightest[len(s.candidates)+1] = s.lightest[len(s.candidates)] + f.weight[i]
			s.candidates = append(s.candidates, i)
			all |= 1 << i
		}
	}
	for _, i := range s.candidates {
		s.degree = max(s.degree, bits.OnesCount64(f.node.Devices[i].Links&all))
	}
	if s.degree == 0 {
		return lightest
	}
	s.extend(0, choice{})
	return s.best
}

// extend tries every way to complete the set with candidates from position at on.
func (s *linkSearch) extend(at int, c choice) {
	k := len(s.option.Shares)
	missing := k - s.taken.total
	if missing == 0 {
		if c.better(&s.best) {
			s.best = c
		}
		return
	}
	for ; at+missing <= len(s.candidates); at++ {
		// Candidates are in order of weight, so the next ones are the lightest completion, and later ones are heavier.
		bound := choice{weight: c.weight + s.lightest[at+missing] - s.lightest[at]}
		bound.links = min(k*(k-1), c.links+missing*(missing-1)+2*missing*s.taken.total, c.links+2*missing*s.degree)
		bound.set = c.set | s.firstUUIDs(at, missing)
		if s.steps == 0 || !bound.better(&s.best) {
			return
		}
		s.steps--
		i := s.candidates[at]
		if !s.taken.add(s.room[i], k) {
			continue
		}
		links := s.node.Devices[i].Links
		s.extend(at+1, choice{
			set:    c.set | 1<<i,
			weight: c.weight + s.weight[i],
			links:  c.links + 2*bits.OnesCount64(links&c.set),
		})
		s.taken.remove(s.room[i], k)
	}
}

// firstUUIDs returns the first candidates by UUID, that many, of those from position at on.
func (s *linkSearch) firstUUIDs(at, count int) uint64 {
	var left, first uint64
	for _, i := range s.candidates[at:] {
		left |= 1 << i
	}
	for range count {
		first |= left & -left
		left &= left - 1
	}
	return first
}
