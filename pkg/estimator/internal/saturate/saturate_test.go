// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package saturate

import (
	"math"
	"math/big"
	"testing"
)

// clamp is the exact result, cut to what an int64 holds.
func clamp(x *big.Int) int64 {
	if x.Sign() < 0 {
		return 0
	}
	if x.IsInt64() {
		return x.Int64()
	}
	return math.MaxInt64
}

// FuzzAgainstExact compares with exact arithmetic.
func FuzzAgainstExact(f *testing.F) {
	f.Add(int64(0), int64(0), int64(0))
	f.Add(int64(3), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Add(int64(1)<<32, int64(1)<<31, int64(0))
	f.Add(int64(1)<<32, int64(1)<<31, int64(1))
	f.Add(int64(-1), int64(7), int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, a, b, c int64) {
		size := func(n int64) *big.Int { return big.NewInt(max(n, 0)) }
		product := new(big.Int).Mul(size(a), size(b))
		product.Mul(product, size(c))
		if got, want := Mul(a, b, c), clamp(product); got != want {
			t.Errorf("Mul(%d, %d, %d) = %d, want %d", a, b, c, got, want)
		}
		sum := new(big.Int).Add(size(a), size(b))
		sum.Add(sum, size(c))
		if got, want := Add(a, b, c), clamp(sum); got != want {
			t.Errorf("Add(%d, %d, %d) = %d, want %d", a, b, c, got, want)
		}
		if a >= 0 && b > 0 {
			up := new(big.Int).Add(big.NewInt(a), big.NewInt(b-1))
			up.Div(up, big.NewInt(b))
			if got, want := CeilDiv(a, b), clamp(up); got != want {
				t.Errorf("CeilDiv(%d, %d) = %d, want %d", a, b, got, want)
			}
			if got, want := RoundUp(a, b), clamp(up.Mul(up, big.NewInt(b))); got != want {
				t.Errorf("RoundUp(%d, %d) = %d, want %d", a, b, got, want)
			}
			if got, want := Sub(a, b), max(a-b, 0); got != want {
				t.Errorf("Sub(%d, %d) = %d, want %d", a, b, got, want)
			}
		}
	})
}
