// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package saturate is arithmetic on sizes that stops at the largest number instead of wrapping around: dimensions come
// from files, and a product that wraps makes a huge model small. Negative numbers, which no size is, count as zero.
package saturate

import (
	"math"
	"math/bits"
)

// Mul returns the product of factors that are not negative (a negative one counts as zero), at most
// math.MaxInt64: the dimensions come from files, and a product that wraps around would make a huge model small.
func Mul(factors ...int64) int64 {
	product := uint64(1)
	overflow := false
	for _, f := range factors {
		if f <= 0 {
			return 0
		}
		hi, lo := bits.Mul64(product, uint64(f))
		if hi != 0 || lo > math.MaxInt64 {
			overflow = true // a later factor may still be zero
			lo = math.MaxInt64
		}
		product = lo
	}
	if overflow {
		return math.MaxInt64
	}
	return int64(product)
}

// Add returns the sum of terms that are not negative (a negative one counts as zero), at most math.MaxInt64.
func Add(terms ...int64) int64 {
	var sum int64
	for _, t := range terms {
		if t <= 0 {
			continue
		}
		if sum > math.MaxInt64-t {
			return math.MaxInt64
		}
		sum += t
	}
	return sum
}

// Sub returns a - b, at least zero.
func Sub(a, b int64) int64 { return max(a-b, 0) }

// CeilDiv returns a / b rounded up, for a ≥ 0; b < 1 counts as 1.
func CeilDiv(a, b int64) int64 {
	b = max(b, 1)
	q := a / b
	if a%b != 0 {
		q++
	}
	return q
}

// RoundUp returns the smallest multiple of m that is at least n.
func RoundUp(n, m int64) int64 { return Mul(CeilDiv(n, m), max(m, 1)) }
