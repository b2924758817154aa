// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evict

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/alloctest"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Each test here is named after a bug of the allocator that Berth descends from, and fails if it comes back.

func TestRegressionNobodyIsEvictedOnGPU0WhileGPU5IsFree(t *testing.T) {
	n := node(gpu(0, 80, 60), gpu(1, 80, 60), gpu(2, 80, 60), gpu(3, 80, 60), gpu(4, 80, 60), gpu(5, 80, 0))
	var victims []Victim
	for i := range 5 {
		victims = append(victims, Victim{Name: "pod", Idle: true, Frees: []Charge{{i, alloc.GiB(60)}}})
	}
	plan, _, ok := Find(n, request(t, even(1, alloc.GiB(70))), victims, nil)
	if !ok || len(plan.Victims) != 0 {
		t.Fatalf("got %d victims, ok %v; want none", len(plan.Victims), ok)
	}
	if diff := cmp.Diff([]string{"GPU-f"}, devicesOf(plan.Allocation)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRegressionAVictimOnSeveralGPUsCountsOnce(t *testing.T) {
	n := node(gpu(0, 80, 80), gpu(1, 80, 80))
	victims := []Victim{{
		Name: "pod", Reload: alloc.GiB(160), Budgets: []int{0}, Frees: []Charge{{0, alloc.GiB(80)}, {1, alloc.GiB(80)}},
	}}
	plan, _, ok := Find(n, request(t, even(2, alloc.GiB(80))), victims, []int{1})
	if !ok {
		t.Fatal("no plan")
	}
	if diff := cmp.Diff([]int{0}, plan.Victims); diff != "" {
		t.Errorf("victims (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Cost{Active: 1, Victims: 1, Reload: alloc.GiB(160)}, plan.Cost, alloctest.CompareBytes); diff != "" {
		t.Errorf("cost (-want +got):\n%s", diff)
	}
}

func TestRegressionWhatAVictimFreesOnSeveralGPUsIsNotCreditedToOne(t *testing.T) {
	full := node(gpu(0, 80, 80), gpu(1, 80, 80))
	victims := []Victim{{Name: "pod", Idle: true, Frees: []Charge{{0, alloc.GiB(40)}, {1, alloc.GiB(40)}}}}
	if _, _, ok := Find(full, request(t, even(1, alloc.GiB(80))), victims, nil); ok {
		t.Error("80Gi were found on one GPU where 40Gi are freed on each of two")
	}
}

func TestRegressionNothingIsEvictedForUnknownMemory(t *testing.T) {
	var zero alloc.Request
	if _, ok := Best(node(gpu(0, 80, 0)), &zero, nil, nil); ok {
		t.Error("the zero Request can be made to fit")
	}
}

func TestRegressionNobodyIsEvictedForTwoMIGInstances(t *testing.T) {
	n := node(instance("MIG-1", 0, 40), instance("MIG-2", 1, 40))
	n.Devices[0].Used = alloc.GiB(40)
	victims := []Victim{{Name: "pod", Idle: true, Frees: []Charge{{0, alloc.GiB(40)}}}}
	if plan, _, ok := Find(n, request(t, even(2, alloc.GiB(30))), victims, nil); ok {
		t.Errorf("the plan is %v after %d evictions", devicesOf(plan.Allocation), len(plan.Victims))
	}
	if alloc.CanEverFit(n, request(t, even(2, alloc.GiB(30)))) {
		t.Error("two instances could hold it together once they are empty")
	}
}
