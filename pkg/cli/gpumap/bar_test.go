// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestApportion(t *testing.T) {
	tests := map[string]struct {
		amounts []int64
		cells   int
		want    []int
	}{
		"in proportion": {[]int64{30, 10, 40}, 8, []int{3, 1, 4}},
		"the largest remainder gets what is left":  {[]int64{10, 10, 13}, 10, []int{3, 3, 4}},
		"what is small is seen":                    {[]int64{1, 1000}, 10, []int{1, 9}},
		"zero gets nothing":                        {[]int64{0, 5, 0}, 4, []int{0, 4, 0}},
		"the largest are seen where cells are few": {[]int64{1, 3, 2}, 2, []int{0, 1, 1}},
		"nothing at all":                           {[]int64{0, 0}, 4, []int{0, 0}},
		"terabytes do not overflow":                {[]int64{1 << 62, 1 << 62}, 10, []int{5, 5}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, apportion(tt.amounts, tt.cells)); diff != "" {
				t.Errorf("cells (-want +got):\n%s", diff)
			}
		})
	}
}

func TestApportionFillsTheBarAndHidesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amounts := rapid.SliceOfN(rapid.Int64Range(0, 1<<45), 1, 12).Draw(t, "amounts")
		n := rapid.IntRange(12, 72).Draw(t, "cells")
		cells := apportion(amounts, n)
		sum, any := 0, false
		for i, c := range cells {
			sum += c
			any = any || amounts[i] > 0
			if (c > 0) != (amounts[i] > 0) {
				t.Fatalf("amount %d got %d cells", amounts[i], c)
			}
		}
		if any && sum != n {
			t.Fatalf("%d cells of %d", sum, n)
		}
	})
}

func TestLabels(t *testing.T) {
	for i, want := range map[int]string{0: "A", 25: "Z", 26: "AA", 27: "AB", 51: "AZ", 52: "BA", 701: "ZZ", 702: "AAA"} {
		if got := newLabel(i).text; got != want {
			t.Errorf("label %d is %s, want %s", i, got, want)
		}
	}
}
