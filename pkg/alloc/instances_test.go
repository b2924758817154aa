// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// instance returns an empty MIG instance of the GPU of an index.
func instance(uuid string, index int, capacity uint64) Device {
	d := gpu(index, capacity, 0)
	d.Parent, d.UUID, d.Model = d.UUID, uuid, "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
	return d
}

func TestRegressionTwoMIGInstancesAreNotPlannedAsTwoGPUs(t *testing.T) {
	n := node(blocked(gpu(0, 80, 0), ReasonUnhealthy), instance("MIG-1", 0, 40), instance("MIG-2", 0, 40))
	if got := Plan(n, request(t, even(2, GiB(30))), MostAllocated); len(got) != 0 {
		t.Errorf("30Gi on each of two were placed on %v", devicesOf(got[0]))
	}
	// Of the counts that an engine is offered by default, one is left.
	var options []Option
	for k := 1; k <= 8; k++ {
		options = append(options, even(k, GiB(uint64(40/k))))
	}
	plans := Plan(n, request(t, options...), MostAllocated)
	var got [][]string
	for _, p := range plans {
		got = append(got, devicesOf(p))
	}
	if diff := cmp.Diff([][]string{{"MIG-1"}}, got); diff != "" {
		t.Errorf("plans (-want +got):\n%s", diff)
	}
}

func TestRegressionNobodyIsEvictedForTwoMIGInstances(t *testing.T) {
	n := node(instance("MIG-1", 0, 40), instance("MIG-2", 1, 40))
	n.Devices[0].Used = GiB(40)
	victims := []Victim{{Name: "pod", Idle: true, Frees: []Charge{{0, GiB(40)}}}}
	if plan, _, ok := Evict(n, request(t, even(2, GiB(30))), victims, nil); ok {
		t.Errorf("the plan is %v after %d evictions", devicesOf(plan.Allocation), len(plan.Victims))
	}
	if CanEverFit(n, request(t, even(2, GiB(30)))) {
		t.Error("two instances could hold it together once they are empty")
	}
}

func TestWhyInstancesDoNotFit(t *testing.T) {
	n := node(instance("MIG-1", 0, 40), instance("MIG-2", 0, 40))
	for _, tc := range []struct {
		name  string
		r     *Request
		want  Reason
		never bool
	}{
		{"one instance holds it", request(t, even(1, GiB(30))), "", false},
		{"two would hold it, were they GPUs", request(t, even(2, GiB(30))), ReasonInstances, true},
		{"no two would hold it", request(t, even(2, GiB(50))), ReasonInsufficientCapacity, true},
		{"there are not three of them", request(t, even(3, GiB(1))), ReasonNotEnoughDevices, true},
	} {
		if reason, never := Unfit(n, tc.r); reason != tc.want || never != tc.never {
			t.Errorf("%s: got %q, never %v; want %q, %v", tc.name, reason, never, tc.want, tc.never)
		}
	}
	if got := Largest(n, 2, true); !got.IsZero() {
		t.Errorf("two instances hold %v each", got)
	}
}
