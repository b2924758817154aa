// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import "math/bits"

// price is the part of a Cost that adds up over victims, as one number of 256 bits, most significant word first, so
// that it can be added, compared and shared out over the devices of a victim. The order of prices is that of costs:
//
//	word 0: violations × violationUnit + active × 2^20 + victims
//	word 1: bytes to reload
//	words 2 and 3: names, see nameWords
//
// The two parts of a Cost that do not add up, priority and last use, are limits on who may be a victim at all.
// Differences of prices are negative numbers in two's complement.
type price [4]uint64

const (
	violationUnit = shareable << 20
	activeUnit    = 1 << 20
	victimUnit    = 1
)

// shareable divides every price (names are rounded for it), so that prices can be shared out evenly over any number
// of devices up to 16 without a rest: it is the least common multiple of 1 to 16.
const shareable = 720720

// noPrice is more than any real price; MaxDevices of them still add up without overflow.
var noPrice = price{1 << 56}

func (p price) plus(o price) price {
	var c uint64
	p[3], c = bits.Add64(p[3], o[3], 0)
	p[2], c = bits.Add64(p[2], o[2], c)
	p[1], c = bits.Add64(p[1], o[1], c)
	p[0], _ = bits.Add64(p[0], o[0], c)
	return p
}

func (p price) minus(o price) price {
	var b uint64
	p[3], b = bits.Sub64(p[3], o[3], 0)
	p[2], b = bits.Sub64(p[2], o[2], b)
	p[1], b = bits.Sub64(p[1], o[1], b)
	p[0], _ = bits.Sub64(p[0], o[0], b)
	return p
}

func (p price) less(o price) bool {
	switch {
	case p[0] != o[0]:
		return int64(p[0]) < int64(o[0])
	case p[1] != o[1]:
		return p[1] < o[1]
	case p[2] != o[2]:
		return p[2] < o[2]
	}
	return p[3] < o[3]
}

// sharedBy returns the price in that many equal parts, or more but smaller ones if it does not divide evenly. The
// price must not be negative.
func (p price) sharedBy(parts int) price {
	for shareable%parts != 0 {
		parts++
	}
	p, _ = p.divided(uint64(parts))
	return p
}

// divided returns p / by rounded down, and the rest.
func (p price) divided(by uint64) (quotient price, rest uint64) {
	for i := range p {
		quotient[i], rest = bits.Div64(rest, p[i], by)
	}
	return quotient, rest
}

// rounded returns the price rounded down to what is shareable.
func (p price) rounded() price {
	_, rest := p.divided(shareable)
	return p.minus(price{3: rest})
}

// nameWords returns words 2 and 3 of the price of the victim whose name is at that place in alphabetical order. Of
// two sets of equally many victims, the one whose names come first (the first that differ decide) has the lesser sum:
// the words are 2^128 less one bit, the higher the earlier the name. Names from place 100 on are alike.
func nameWords(place int) (w2, w3 uint64) {
	bit := max(127-place, 27)
	hi, lo := uint64(0), uint64(1)<<(bit&63)
	if bit > 63 {
		hi, lo = lo, 0
	}
	w3, borrow := bits.Sub64(0, lo, 0)
	w2, _ = bits.Sub64(0, hi, borrow)
	return w2, w3
}
