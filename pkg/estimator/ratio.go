// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// ratio is a fraction of small numbers, applied without floating point so that the same input gives the same bytes
// everywhere.
type ratio struct{ num, den int64 }

// of returns r × n rounded up, at most math.MaxInt64.
func (r ratio) of(n int64) int64 {
	if r.num == r.den || n <= 0 {
		return max(n, 0)
	}
	hi, lo := bits.Mul64(uint64(n), uint64(max(r.num, 0)))
	den := uint64(max(r.den, 1))
	if hi >= den {
		return math.MaxInt64
	}
	q, rest := bits.Div64(hi, lo, den)
	if rest != 0 {
		q++
	}
	return int64(min(q, math.MaxInt64))
}

// times returns the product of two ratios.
func (r ratio) times(o ratio) ratio { return ratio{mul(r.num, o.num), mul(r.den, o.den)} }

// fraction returns parts per million of total, rounded up (vLLM: ceil(total × utilization)).
func fraction(total, ppm int64) int64 { return ratio{ppm, 1_000_000}.of(total) }

// human formats bytes for people: "13.6Gi", "512Mi".
func human(n int64) string {
	switch {
	case n >= gib:
		return strconv.FormatFloat(float64(n)/float64(gib), 'f', 1, 64) + "Gi"
	case n >= mib:
		return strconv.FormatInt(ceilDiv(n, mib), 10) + "Mi"
	}
	return strconv.FormatInt(ceilDiv(n, kib), 10) + "Ki"
}

// containsFold says whether s contains substr, ASCII letters compared without case.
func containsFold(s, substr string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(substr))
}
