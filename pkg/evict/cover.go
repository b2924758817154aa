// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"math/bits"

	"github.com/berth-dev/berth/pkg/alloc"
)

// victimSet is a set of victims by their place in the order of names.
type victimSet [MaxVictims / 64]uint64

func (s *victimSet) add(v int)      { s[v/64] |= 1 << (v % 64) }
func (s *victimSet) remove(v int)   { s[v/64] &^= 1 << (v % 64) }
func (s *victimSet) has(v int) bool { return s[v/64]>>(v%64)&1 == 1 }

func (s *victimSet) addAll(o *victimSet) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s *victimSet) overlaps(o *victimSet) bool {
	var both uint64
	for i := range s {
		both |= s[i] & o[i]
	}
	return both != 0
}

func (s *victimSet) len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// load is what a victim frees on one device, and what evicting it for that device's sake costs.
type load struct {
	victim int
	amount uint64
	// id counts the loads of all devices.
	id    int
	price price
}

// cover is the cheapest way to free enough on one device.
type cover struct {
	price   price // noPrice if there is none
	victims victimSet
}

// coverer finds covers: a knapsack problem, solved by depth-first branch and bound over the loads, largest first.
type coverer struct {
	loads []load
	// rest[i] is the sum of the amounts from load i on, and cheapest[i] the least of their prices.
	rest     []uint64
	cheapest []price
	best     cover
	chosen   victimSet
	// steps is what is left of the budget; below zero, the answer is not to be relied on.
	steps *int
}

// prepare sorts the loads and sums them up.
func (c *coverer) prepare() {
	for i := 1; i < len(c.loads); i++ {
		l := c.loads[i]
		at := i
		for ; at > 0; at-- {
			prev := &c.loads[at-1]
			if prev.amount > l.amount || prev.amount == l.amount && !l.price.less(prev.price) {
				break
			}
			c.loads[at] = *prev
		}
		c.loads[at] = l
	}
	n := len(c.loads)
	c.rest = append(c.rest[:0], make([]uint64, n+1)...)
	c.cheapest = append(c.cheapest[:0], make([]price, n+1)...)
	c.cheapest[n] = noPrice
	for i := n - 1; i >= 0; i-- {
		c.rest[i] = alloc.BytesOf(c.rest[i+1]).Plus(alloc.BytesOf(c.loads[i].amount)).Uint64()
		c.cheapest[i] = c.cheapest[i+1]
		if c.loads[i].price.less(c.cheapest[i]) {
			c.cheapest[i] = c.loads[i].price
		}
	}
}

// cheapestFor returns the cheapest subset of the prepared loads that frees need.
func (c *coverer) cheapestFor(need uint64) cover {
	c.best = cover{price: noPrice}
	c.chosen = victimSet{}
	c.extend(0, need, price{}, noPrice)
	return c.best
}

// extend decides on the loads from i on; need is still to be freed, and what is chosen so far costs spent. A load that
// costs spared or more is skipped: one that frees as much for less was left out before.
func (c *coverer) extend(i int, need uint64, spent, spared price) {
	if need == 0 {
		if spent.less(c.best.price) {
			c.best = cover{price: spent, victims: c.chosen}
		}
		return
	}
	for ; c.rest[i] >= need; i++ {
		if *c.steps--; *c.steps < 0 || !c.bound(i, need, spent).less(c.best.price) {
			return
		}
		l := &c.loads[i]
		if !l.price.less(spared) {
			continue
		}
		c.chosen.add(l.victim)
		c.extend(i+1, need-min(need, l.amount), spent.plus(l.price), spared)
		c.chosen.remove(l.victim)
		spared = l.price
	}
}

// bound returns what any choice from load i on costs at least: as many loads as the largest ones that are enough, at
// the price of the cheapest.
func (c *coverer) bound(i int, need uint64, spent price) price {
	cheapest := c.cheapest[i]
	for j := i; need > 0 && j < len(c.loads); j++ {
		need -= min(need, c.loads[j].amount)
		spent = spent.plus(cheapest)
	}
	return spent
}
