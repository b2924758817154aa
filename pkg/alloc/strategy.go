// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

// Strategy says which of several devices that could hold a share is the better one.
type Strategy string

const (
	// MostAllocated packs: the tightest fit, which keeps large holes for large models. The default.
	MostAllocated Strategy = "MostAllocated"
	// LeastAllocated spreads: the emptiest devices.
	LeastAllocated Strategy = "LeastAllocated"
	// Fragmentation packs by what is left: of two fits it prefers the one after which less free memory is of no use to the mix
	// of requests; see Cost. On a node without a mix, those are typical that are for eighths of a device, equally frequent.
	Fragmentation Strategy = "Fragmentation"
)

// Strategies are all strategies, the default first.
var Strategies = []Strategy{MostAllocated, LeastAllocated, Fragmentation}

// weightCeiling bounds what one device can weigh, so that the weights of MaxDevices devices add up without
// overflow. 2^56 bytes are 64 PiB.
const weightCeiling = 1 << 56

// weight is what choosing device d, with that much free, counts against a set; the set of least total weight is the
// best by this strategy. For options of unequal shares, Fragmentation judges by the smallest share, the only one
// that is sure to fit on every candidate; this keeps weights independent of which device gets which share.
func (s Strategy) weight(o *Option, d *Device, free Bytes) uint64 {
	switch s {
	case LeastAllocated:
		return weightCeiling - min(free.n, weightCeiling)
	case Fragmentation:
		left := free.Minus(o.On(len(o.Shares)-1, d))
		return weightCeiling + fragmented(left, d.Capacity) - fragmented(free, d.Capacity)
	}
	return min(free.n, weightCeiling)
}

// pieces is how finely fragmented looks at a device.
const pieces = 8

// fragmented returns how much of a device's free memory is expected to be of no use to the next request: the
// measure of fragmentation gradient descent (Weng et al., "Beware of Fragmentation", USENIX ATC 2023: Σ over request
// sizes of their frequency × the free memory if the size does not fit), for requests of 1/8, 2/8, … 8/8 of the
// device, equally frequent. It is zero for an empty device, as for a full one.
func fragmented(free, capacity Bytes) uint64 {
	f, c := min(free.n, weightCeiling), min(capacity.n, weightCeiling)
	if c == 0 || f >= c {
		return 0
	}
	usable := f * pieces / c // how many of the sizes fit
	return f / pieces * (pieces - usable)
}
