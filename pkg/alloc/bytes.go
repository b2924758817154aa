// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"math"
	"math/bits"
	"strconv"
)

// Bytes is an amount of GPU memory, in bytes. It is a struct so that raw + and - do not compile: the arithmetic
// here saturates at zero and at the largest amount instead of wrapping around, because a wrapped "free" amount
// is how a full GPU comes to look empty.
type Bytes struct{ n uint64 }

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// BytesOf returns n bytes.
func BytesOf(n uint64) Bytes { return Bytes{n} }

// BytesOfInt64 returns n bytes; a negative n, which no amount of memory can be, becomes zero.
func BytesOfInt64(n int64) Bytes { return Bytes{uint64(max(n, 0))} }

// MiB returns n mebibytes (2^20 bytes).
func MiB(n uint64) Bytes { return Bytes{mib}.Times(n) }

// GiB returns n gibibytes (2^30 bytes).
func GiB(n uint64) Bytes { return Bytes{gib}.Times(n) }

// Uint64 returns b in bytes.
func (b Bytes) Uint64() uint64 { return b.n }

// Int64 returns b in bytes, at most math.MaxInt64.
func (b Bytes) Int64() int64 { return int64(min(b.n, math.MaxInt64)) }

// IsZero says whether b is no memory at all.
func (b Bytes) IsZero() bool { return b.n == 0 }

// Plus returns b + o, at most the largest amount.
func (b Bytes) Plus(o Bytes) Bytes {
	sum, carry := bits.Add64(b.n, o.n, 0)
	if carry != 0 {
		return Bytes{math.MaxUint64}
	}
	return Bytes{sum}
}

// Minus returns b - o, at least zero.
func (b Bytes) Minus(o Bytes) Bytes {
	if o.n >= b.n {
		return Bytes{}
	}
	return Bytes{b.n - o.n}
}

// Times returns b * k, at most the largest amount.
func (b Bytes) Times(k uint64) Bytes {
	hi, lo := bits.Mul64(b.n, k)
	if hi != 0 {
		return Bytes{math.MaxUint64}
	}
	return Bytes{lo}
}

// DividedUp returns b / k rounded up; k must not be zero.
func (b Bytes) DividedUp(k uint64) Bytes {
	q, r := b.n/k, b.n%k
	if r != 0 {
		q++
	}
	return Bytes{q}
}

// Compare returns -1, 0 or 1 as b is less than, equal to or greater than o.
func (b Bytes) Compare(o Bytes) int {
	switch {
	case b.n < o.n:
		return -1
	case b.n > o.n:
		return 1
	}
	return 0
}

// Less says whether b < o.
func (b Bytes) Less(o Bytes) bool { return b.n < o.n }

// Max returns the larger of b and o.
func (b Bytes) Max(o Bytes) Bytes { return Bytes{max(b.n, o.n)} }

// Min returns the smaller of b and o.
func (b Bytes) Min(o Bytes) Bytes { return Bytes{min(b.n, o.n)} }

// String formats b for people, in the largest binary unit that keeps it at or above one: "79.2Gi", "512Mi".
func (b Bytes) String() string {
	switch {
	case b.n >= gib:
		return trimmed(float64(b.n)/gib) + "Gi"
	case b.n >= mib:
		return trimmed(float64(b.n)/mib) + "Mi"
	case b.n >= kib:
		return trimmed(float64(b.n)/kib) + "Ki"
	}
	return strconv.FormatUint(b.n, 10)
}

// trimmed formats v with one decimal, without a trailing ".0".
func trimmed(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	if len(s) > 2 && s[len(s)-2:] == ".0" {
		return s[:len(s)-2]
	}
	return s
}

// Ratio is a fraction of a device's memory in parts per million, as engines take it
// (vLLM's --gpu-memory-utilization 0.92 is Ratio 920000). An integer, so that it is the same on every machine.
type Ratio uint32

// RatioOne is the whole device.
const RatioOne Ratio = 1_000_000

// Of returns the share r of b, rounded up.
func (r Ratio) Of(b Bytes) Bytes {
	hi, lo := bits.Mul64(b.n, uint64(r))
	if hi >= uint64(RatioOne) {
		return Bytes{math.MaxUint64}
	}
	q, rem := bits.Div64(hi, lo, uint64(RatioOne))
	if rem != 0 {
		q++
	}
	return Bytes{q}
}

// FractionOf returns b / total, rounded down, at most RatioOne; zero if total is zero.
func (b Bytes) FractionOf(total Bytes) Ratio {
	if total.IsZero() {
		return 0
	}
	if !b.Less(total) {
		return RatioOne
	}
	hi, lo := bits.Mul64(b.n, uint64(RatioOne))
	q, _ := bits.Div64(hi, lo, total.n) // hi < total.n, because b < total and RatioOne < 2^64
	return Ratio(q)
}
