// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import "math/bits"

// MaxScore is the best score; the worst is 0.
const MaxScore = 100

// Parts of a score within its band, in percent: the strategy, then what is left in pieces, then links.
const (
	strategyPercent  = 90
	fragmentsPercent = 5
	linksPercent     = 5
)

// perfect is the best value of one part.
const perfect = 1000

// Score says how good it would be to book the allocation on the node as it is (without it), from 0 to MaxScore. It is
// absolute: it depends on this node alone, so that scores of one request can be compared over nodes in any order.
//
// The option decides the band, because fewer devices always win: the first option of the request scores 51 to 100,
// the second 26 to 50, the third 13 to 25, then 7 to 12, 4 to 6, 2 to 3, 1, and the rest 0. Within the band, 90 % is
// the strategy:
//
//   - MostAllocated: what is left free per device, on a logarithmic scale from nothing to 512 GiB, because 2 GiB
//     left against 4 is as much of a difference as 20 against 40;
//   - LeastAllocated: what is left free, as a fraction of the devices' capacity;
//   - Fragmentation: how much less of the devices' free memory is in pieces too small to use than before.
//
// Then 5 % is how little of the devices would be free but in such pieces, and 5 % how many of the set's pairs of
// devices have a fast link. An allocation that names devices that the node lacks scores 0.
func Score(n *Node, a *Allocation, s Strategy) int64 {
	band := MaxScore >> min(a.Option, 63)
	width := band - band/2
	if len(a.Devices) == 0 || width == 0 {
		return 0
	}
	var set uint64
	var left, capacity, before, after uint64 // sums over the set, each at most MaxDevices × weightCeiling
	for i := range a.Devices {
		at := n.Position(a.Devices[i].UUID)
		if at < 0 || at >= MaxDevices {
			return 0
		}
		set |= 1 << at
		d := &n.Devices[at]
		rest := d.Free().Minus(a.Devices[i].Memory)
		left += min(rest.n, weightCeiling)
		capacity += min(d.Capacity.n, weightCeiling)
		before += fragmented(d.Free(), d.Capacity)
		after += fragmented(rest, d.Capacity)
	}
	var strategy int
	switch s {
	case LeastAllocated:
		strategy = part(left, capacity)
	case Fragmentation:
		strategy = (perfect + part(before, capacity) - part(after, capacity)) / 2
	default:
		strategy = tightness(left / uint64(len(a.Devices)))
	}
	quality := strategyPercent*strategy +
		fragmentsPercent*(perfect-part(after, capacity)) +
		linksPercent*linkedPart(n, set)
	return int64(band - width + 1 + (width-1)*quality/(100*perfect))
}

// part returns a/b in thousandths, at most all.
func part(a, b uint64) int {
	if b == 0 {
		return 0
	}
	hi, lo := bits.Mul64(min(a, b), perfect)
	q, _ := bits.Div64(hi, lo, b)
	return int(q)
}

// tightness returns how little is left on a device: perfect for nothing, less by an equal amount for each doubling of
// left + 64 MiB, 0 from 512 GiB on.
func tightness(left uint64) int {
	const (
		unit      = 64 // MiB: less than this is not a difference
		doublings = 13
	)
	steps := log2(left/mib+unit) - log2(unit)
	return max(0, perfect-steps*perfect/(doublings<<logFraction))
}

const logFraction = 10

// log2 returns the binary logarithm of v ≥ 1 in units of 2^-logFraction, linear between powers of two. In integers,
// so that all machines agree.
func log2(v uint64) int {
	whole := bits.Len64(v) - 1
	return whole<<logFraction + int(v<<(63-whole)<<1>>(64-logFraction))
}

// linkedPart returns how many of the set's pairs have a fast link, in thousandths; a single device is all linked.
func linkedPart(n *Node, set uint64) int {
	k := bits.OnesCount64(set)
	if k < 2 {
		return perfect
	}
	links := 0
	for rest := set; rest != 0; rest &= rest - 1 {
		links += bits.OnesCount64(n.Devices[bits.TrailingZeros64(rest)].Links & set)
	}
	return links * perfect / (k * (k - 1))
}
