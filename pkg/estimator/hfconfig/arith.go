// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import "github.com/berth-dev/berth/pkg/estimator/internal/saturate"

// maxProduct caps every product, so that the sums of a few of them are exact; long sums saturate.
const maxProduct = int64(1) << 55

// mul returns the product of factors that are not negative, at most maxProduct.
func mul(factors ...int64) int64 { return min(saturate.Mul(factors...), maxProduct) }

// accumulate adds n to a sum that holds any number of terms.
func accumulate(sum *int64, n int64) { *sum = saturate.Add(*sum, n) }

func ceilDiv(a, b int64) int64 { return saturate.CeilDiv(a, b) }
