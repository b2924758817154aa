// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/alloc"
)

func TestRegressionTwoMIGInstancesAreNotPlannedAsTwoGPUs(t *testing.T) {
	n := node(blocked(gpu(0, 80, 0), alloc.ReasonUnhealthy), instance("MIG-1", 0, 40), instance("MIG-2", 0, 40))
	if got := alloc.Plan(n, request(t, even(2, alloc.GiB(30))), alloc.MostAllocated); len(got) != 0 {
		t.Errorf("30Gi on each of two were placed on %v", devicesOf(got[0]))
	}
	// Of the counts that an engine is offered by default, one is left.
	var options []alloc.Option
	for k := 1; k <= 8; k++ {
		options = append(options, even(k, alloc.GiB(uint64(40/k))))
	}
	plans := alloc.Plan(n, request(t, options...), alloc.MostAllocated)
	var got [][]string
	for _, p := range plans {
		got = append(got, devicesOf(p))
	}
	if diff := cmp.Diff([][]string{{"MIG-1"}}, got); diff != "" {
		t.Errorf("plans (-want +got):\n%s", diff)
	}
}

func TestWhyInstancesDoNotFit(t *testing.T) {
	n := node(instance("MIG-1", 0, 40), instance("MIG-2", 0, 40))
	for _, tc := range []struct {
		name  string
		r     *alloc.Request
		want  alloc.Reason
		never bool
	}{
		{"one instance holds it", request(t, even(1, alloc.GiB(30))), "", false},
		{"two would hold it, were they GPUs", request(t, even(2, alloc.GiB(30))), alloc.ReasonInstances, true},
		{"no two would hold it", request(t, even(2, alloc.GiB(50))), alloc.ReasonInsufficientCapacity, true},
		{"there are not three of them", request(t, even(3, alloc.GiB(1))), alloc.ReasonNotEnoughDevices, true},
	} {
		if reason, never := alloc.Unfit(n, tc.r); reason != tc.want || never != tc.never {
			t.Errorf("%s: got %q, never %v; want %q, %v", tc.name, reason, never, tc.want, tc.never)
		}
	}
	if got := alloc.Largest(n, 2, true); !got.IsZero() {
		t.Errorf("two instances hold %v each", got)
	}
}
