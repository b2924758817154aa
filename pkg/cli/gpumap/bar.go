// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"cmp"
	"math/bits"
	"slices"
)

// segment is a part of a bar.
type segment struct {
	amount int64
	// text is repeated over the cells of the segment: the pod's label, or a sign.
	text  string
	paint paint
}

// Signs of what is no pod's. A pod's memory is its label: in capitals where it is in use, in small letters where it is
// only booked.
const (
	signFree    = "."
	signBlocked = "x"
	signForeign = "#"
	signLeaving = "~"
)

// segments are the parts of a device's bar, which add up to at least its capacity.
func (d *Device) segments(labels map[key]label) []segment {
	var parts []segment
	var charged int64
	for i := range d.Pods {
		p := &d.Pods[i]
		l := labels[p.key()]
		charged += p.Charged
		parts = append(parts, segment{p.Measured, l.text, l.inUse()}, segment{p.Charged - p.Measured, l.small(), l.booked()})
	}
	parts = append(parts, segment{d.Leaving, signLeaving, paintDim}, segment{d.Foreign, signForeign, paintForeign})
	rest := max(0, d.Capacity-charged-d.Leaving-d.Foreign)
	if d.State == StateReady {
		return append(parts, segment{rest, signFree, paintDim})
	}
	return append(parts, segment{rest, signBlocked, paintDim})
}

// apportion deals n cells to amounts: in proportion, by largest remainder, but at least one to each amount that is
// not zero (largest first, as far as cells go), so that what is small is seen all the same.
func apportion(amounts []int64, n int) []int {
	cells := make([]int, len(amounts))
	var total uint64
	byAmount := make([]int, 0, len(amounts))
	for i, a := range amounts {
		if a > 0 {
			total += uint64(a)
			byAmount = append(byAmount, i)
		}
	}
	slices.SortStableFunc(byAmount, func(a, b int) int { return cmp.Compare(amounts[b], amounts[a]) })
	if len(byAmount) > n {
		byAmount = byAmount[:n]
	}
	left := n - len(byAmount)
	remainder := make([]uint64, len(amounts))
	for _, i := range byAmount {
		// The first cell is given; of its share the rest is dealt.
		hi, lo := bits.Mul64(uint64(amounts[i]), uint64(n))
		whole, rest := bits.Div64(hi, lo, total)
		cells[i], remainder[i] = 1, rest
		extra := min(max(int(whole)-1, 0), left)
		cells[i] += extra
		left -= extra
	}
	slices.SortStableFunc(byAmount, func(a, b int) int { return cmp.Compare(remainder[b], remainder[a]) })
	for ; left > 0 && len(byAmount) > 0; left-- {
		i := byAmount[0]
		byAmount = append(byAmount[1:], i)
		cells[i]++
	}
	return cells
}

// bar draws segments over n cells.
func (c canvas) bar(parts []segment, n int) string {
	amounts := make([]int64, len(parts))
	for i := range parts {
		amounts[i] = parts[i].amount
	}
	var out string
	for i, cells := range apportion(amounts, n) {
		if cells > 0 {
			out += c.paint(parts[i].paint, repeated(parts[i].text, cells))
		}
	}
	return out
}

// repeated returns the first n bytes of text repeated.
func repeated(text string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = text[i%len(text)]
	}
	return string(b)
}
