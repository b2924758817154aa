// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"math"
	"math/big"
	"testing"
)

func TestBytesString(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 1023: "1023", 1024: "1Ki", 1536: "1.5Ki", 64 << 20: "64Mi", 1 << 30: "1Gi",
		81559 << 20: "79.6Gi", 21474836480: "20Gi",
	} {
		if got := BytesOf(n).String(); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestBytesOfInt64IsNeverNegative(t *testing.T) {
	if got := BytesOfInt64(math.MinInt64); !got.IsZero() {
		t.Errorf("got %v", got)
	}
	if got := BytesOfInt64(5); got != BytesOf(5) {
		t.Errorf("got %v", got)
	}
	if got := BytesOf(math.MaxUint64).Int64(); got != math.MaxInt64 {
		t.Errorf("got %d", got)
	}
}

// FuzzBytes compares the arithmetic with that of numbers of any size, cut off at zero and at the largest amount.
func FuzzBytes(f *testing.F) {
	for _, seed := range [][2]uint64{{0, 0}, {1, 2}, {math.MaxUint64, 1}, {1 << 63, 2}, {1 << 32, 1 << 32}, {math.MaxUint64, math.MaxUint64}} {
		f.Add(seed[0], seed[1], uint32(920_000))
	}
	largest := new(big.Int).SetUint64(math.MaxUint64)
	f.Fuzz(func(t *testing.T, x, y uint64, parts uint32) {
		a, b := new(big.Int).SetUint64(x), new(big.Int).SetUint64(y)
		check := func(op string, got Bytes, want *big.Int) {
			if want.Sign() < 0 {
				want.SetInt64(0)
			}
			if want.Cmp(largest) > 0 {
				want.Set(largest)
			}
			if got.Uint64() != want.Uint64() {
				t.Errorf("%d %s %d = %d, want %d", x, op, y, got.Uint64(), want)
			}
		}
		// up returns n/d rounded up.
		up := func(n, d *big.Int) *big.Int {
			q, m := new(big.Int).DivMod(n, d, new(big.Int))
			if m.Sign() > 0 {
				q.Add(q, big.NewInt(1))
			}
			return q
		}
		check("+", BytesOf(x).Plus(BytesOf(y)), new(big.Int).Add(a, b))
		check("-", BytesOf(x).Minus(BytesOf(y)), new(big.Int).Sub(a, b))
		check("*", BytesOf(x).Times(y), new(big.Int).Mul(a, b))
		if y != 0 {
			check("/", BytesOf(x).DividedUp(y), up(a, b))
		}
		share := new(big.Int).Mul(a, big.NewInt(int64(parts)))
		check("share", Ratio(parts).Of(BytesOf(x)), up(share, big.NewInt(int64(RatioOne))))
		if got := BytesOf(x).Compare(BytesOf(y)); got != a.Cmp(b) || BytesOf(x).Less(BytesOf(y)) != (got < 0) {
			t.Errorf("Compare(%d, %d) = %d", x, y, got)
		}
		if low, high := BytesOf(x).Min(BytesOf(y)), BytesOf(x).Max(BytesOf(y)); high.Less(low) {
			t.Errorf("Min(%d, %d) = %v, Max %v", x, y, low, high)
		}
	})
}
