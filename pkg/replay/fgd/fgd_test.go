// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fgd

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTypicalPodsAreTheMostFrequent(t *testing.T) {
	a, b, c := Request{CPU: 1000, GPUs: 1, Milli: 500}, Request{CPU: 2000}, Request{CPU: 3000, GPUs: 1, Milli: 500}
	list := slices.Concat(slices.Repeat([]Request{b}, 5), slices.Repeat([]Request{a}, 90), slices.Repeat([]Request{c}, 5))
	tests := []struct {
		name    string
		percent int
		want    Typical
	}{
		{"the first covers 90 %", 90, Typical{{a, 90}}},
		{"of two that are as frequent, the one with more CPU", 95, Typical{{a, 90}, {c, 5}}},
		{"all", 96, Typical{{a, 90}, {c, 5}, {b, 5}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, TypicalOf(list, tt.percent)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnusable(t *testing.T) {
	typical := Typical{
		{Request{CPU: 1000, GPUs: 1, Milli: 500}, 4}, {Request{CPU: 8000, GPUs: 1, Milli: 500}, 2}, {Request{CPU: 500}, 1},
		{Request{CPU: 1000, GPUs: 2, Milli: 1000}, 1}, {Request{CPU: 1000, GPUs: 1, Milli: 100, Models: "T4|V100"}, 3},
	} // of 11 pods
	tests := []struct {
		name  string
		model string
		cpu   int64
		idle  []int
		want  int64
	}{
		{"nothing is idle", "T4", 64000, []int{0, 0}, 0},
		// The CPU-only pod can use nothing: 2000; the others all of it.
		{"an empty node", "T4", 64000, []int{1000, 1000}, 2000},
		// Idle 1300. 4 × 300 (one GPU is too small), 2 × 300, 1 × 1300, 1 × 1300 (not two whole GPUs), 3 × 0.
		{"a GPU in pieces", "T4", 64000, []int{300, 1000}, 4*300 + 2*300 + 1300 + 1300},
		// The second request finds too little CPU.
		{"some find too little CPU", "T4", 7999, []int{300, 1000}, 4*300 + 2*1300 + 1300 + 1300},
		{"all find too little CPU", "T4", 999, []int{300, 1000}, 11 * 1300},
		{"pods that want another model", "P100", 64000, []int{300, 1000}, 4*300 + 2*300 + 1300 + 1300 + 3*1300},
		{"too little on each GPU, for all but the smallest", "V100", 64000, []int{300, 400}, 8 * 700},
		{"exactly enough", "V100", 1000, []int{500}, 2*500 + 500 + 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := typical.For(tt.model).Unusable(tt.cpu, tt.idle); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	if typical.Weight() != 11 {
		t.Errorf("weight %d", typical.Weight())
	}
}

func TestMay(t *testing.T) {
	for _, tt := range []struct {
		models, model string
		want          bool
	}{
		{"", "T4", true}, {"", "", true}, {"T4", "T4", true}, {"T4", "", false}, {"T4|V100", "V100", true}, {"T4|V100", "V10", false}, {"V100M16|V100M32", "V100", false},
	} {
		if got := May(tt.models, tt.model); got != tt.want {
			t.Errorf("May(%q, %q) = %v", tt.models, tt.model, got)
		}
	}
}
