// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import "math/bits"

// maxBytes caps every computed size: sums of many such sizes still fit an int64.
const maxBytes = int64(1) << 55

// mul returns the product of factors that are not negative, at most maxBytes.
func mul(factors ...int64) int64 {
	product := uint64(1)
	for _, f := range factors {
		if f <= 0 {
			return 0
		}
		hi, lo := bits.Mul64(product, uint64(f))
		if hi != 0 || lo > uint64(maxBytes) {
			lo = uint64(maxBytes)
		}
		product = lo
	}
	return int64(product)
}

// ceilDiv returns a / b rounded up; b < 1 counts as 1.
func ceilDiv(a, b int64) int64 {
	b = max(b, 1)
	q := a / b
	if a%b != 0 {
		q++
	}
	return q
}
