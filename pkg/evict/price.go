// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import "math/bits"

// price is the part of a Cost that adds up over victims, as one number of 128 bits, so that it can be added, compared
// and split over the devices of a victim. The order of prices is that of costs:
//
//	price = (class × 2^52 + bytes to reload) × priceParts
//	class = violations × 2^20 + disruption × 2^10 + victims
//
// The parts of a Cost that do not add up, priority and last use, are limits on who may be a victim at all.
// Differences of prices are negative numbers in two's complement.
type price struct{ hi, lo uint64 }

const (
	violationClass = 1 << 20
	activeClass    = 1 << 10
	victimClass    = 1

	// maxReload bounds what one victim reloads (16 TiB), so that MaxVictims of them stay below one class.
	maxReload = 1 << 44

	// priceParts is how many parts a price is split into. It is the least common multiple of 1 to 16,
	// so that up to 16 devices can have equal parts without a rest.
	priceParts = 720720

	classShift = 52
)

// noPrice is more than any real price. It is never added to.
var noPrice = price{hi: 1 << 62}

// partOf returns one of the priceParts parts of the price of a class, and of so many bytes to reload.
func partOf(class, reload uint64) price {
	return price{class >> (64 - classShift), class<<classShift | reload}
}

// part returns one of the priceParts parts of the price of a cost: what adds up of it, in the order of Compare.
func (c *Cost) part() price {
	class := uint64(c.Violations)*violationClass + uint64(c.disruption())*activeClass + uint64(c.Victims)*victimClass
	return partOf(class, min(c.Reload.Uint64(), maxReload*MaxVictims))
}

// violationPrice returns the price of that many violations of disruption budgets.
func violationPrice(violations int) price {
	return partOf(uint64(violations)*violationClass, 0).times(priceParts)
}

func (p price) plus(o price) price {
	lo, carry := bits.Add64(p.lo, o.lo, 0)
	hi, _ := bits.Add64(p.hi, o.hi, carry)
	return price{hi, lo}
}

func (p price) minus(o price) price {
	lo, borrow := bits.Sub64(p.lo, o.lo, 0)
	hi, _ := bits.Sub64(p.hi, o.hi, borrow)
	return price{hi, lo}
}

func (p price) times(k int) price {
	hi, lo := bits.Mul64(p.lo, uint64(k))
	return price{p.hi*uint64(k) + hi, lo}
}

func (p price) less(o price) bool {
	if p.hi != o.hi {
		return int64(p.hi) < int64(o.hi)
	}
	return p.lo < o.lo
}

// class returns the class of a price, rounded down.
func (p price) class() uint64 { return (p.hi<<(64-classShift) | p.lo>>classShift) / priceParts }
