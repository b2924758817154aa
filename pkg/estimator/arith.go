// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "github.com/berth-dev/berth/pkg/estimator/internal/saturate"

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// The short names keep formulas legible.

func mul(factors ...int64) int64 { return saturate.Mul(factors...) }
func add(terms ...int64) int64   { return saturate.Add(terms...) }
func sub(a, b int64) int64       { return saturate.Sub(a, b) }
func ceilDiv(a, b int64) int64   { return saturate.CeilDiv(a, b) }
func roundUp(n, m int64) int64   { return saturate.RoundUp(n, m) }
