// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each test here is named after a bug of the allocator that Berth descends from, and fails if it comes back.

func devicesOf(a Allocation) []string {
	var names []string
	for _, d := range a.Devices {
		names = append(names, d.UUID)
	}
	return names
}

func TestRegressionAnOptionOfSeveralGPUsIsNotDroppedBecauseOneGPUIsFull(t *testing.T) {
	n := node(gpu(0, 80, 10), gpu(1, 80, 80), gpu(2, 80, 10), gpu(3, 80, 10))
	plans := Plan(n, request(t, even(3, GiB(60))), MostAllocated)
	if len(plans) != 1 {
		t.Fatalf("got %d plans, want 1", len(plans))
	}
	if diff := cmp.Diff([]string{"GPU-a", "GPU-c", "GPU-d"}, devicesOf(plans[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRegressionNobodyIsEvictedOnGPU0WhileGPU5IsFree(t *testing.T) {
	n := node(gpu(0, 80, 60), gpu(1, 80, 60), gpu(2, 80, 60), gpu(3, 80, 60), gpu(4, 80, 60), gpu(5, 80, 0))
	var victims []Victim
	for i := range 5 {
		victims = append(victims, Victim{Name: "pod", Idle: true, Frees: []Charge{{i, GiB(60)}}})
	}
	plan, _, ok := Evict(n, request(t, even(1, GiB(70))), victims, nil)
	if !ok || len(plan.Victims) != 0 {
		t.Fatalf("got %d victims, ok %v; want none", len(plan.Victims), ok)
	}
	if diff := cmp.Diff([]string{"GPU-f"}, devicesOf(plan.Allocation)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRegressionTheMemoryOfSeveralGPUsIsNotChargedToOne(t *testing.T) {
	// 100 GiB over two GPUs: 50 on each.
	n := node(gpu(0, 80, 0), gpu(1, 80, 0))
	got, ok := Best(n, request(t, even(2, GiB(50))), MostAllocated)
	if !ok {
		t.Fatal("no allocation")
	}
	if diff := cmp.Diff([]DeviceShare{{"GPU-a", GiB(50)}, {"GPU-b", GiB(50)}}, got.Devices, bytesComparer); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Nor is what a victim frees on several GPUs credited to one.
	full := node(gpu(0, 80, 80), gpu(1, 80, 80))
	victims := []Victim{{Name: "pod", Idle: true, Frees: []Charge{{0, GiB(40)}, {1, GiB(40)}}}}
	if _, _, ok := Evict(full, request(t, even(1, GiB(80))), victims, nil); ok {
		t.Error("80Gi were found on one GPU where 40Gi are freed on each of two")
	}
}

func TestRegressionAVictimOnSeveralGPUsCountsOnce(t *testing.T) {
	n := node(gpu(0, 80, 80), gpu(1, 80, 80))
	victims := []Victim{{
		Name: "pod", Reload: GiB(160), Budgets: []int{0}, Frees: []Charge{{0, GiB(80)}, {1, GiB(80)}},
	}}
	plan, _, ok := Evict(n, request(t, even(2, GiB(80))), victims, []int{1})
	if !ok {
		t.Fatal("no plan")
	}
	if diff := cmp.Diff([]int{0}, plan.Victims); diff != "" {
		t.Errorf("victims (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Cost{Active: 1, Victims: 1, Reload: GiB(160)}, plan.Cost, bytesComparer); diff != "" {
		t.Errorf("cost (-want +got):\n%s", diff)
	}
}

func TestRegressionTheNextPlanIsTriedWhenTheFirstDoesNotHold(t *testing.T) {
	// By its total, the option of one GPU would be the cheapest, but no GPU can hold it; of the two pairs of one
	// model, one has a full GPU.
	n := node(gpu(0, 80, 0), gpu(1, 80, 79), model(gpu(2, 80, 30), "A100"), model(gpu(3, 80, 30), "A100"))
	r := request(t, even(1, GiB(90)), even(2, GiB(45)))
	plans := Plan(n, r, MostAllocated)
	if len(plans) != 1 {
		t.Fatalf("got %d plans, want 1", len(plans))
	}
	if err := Validate(n, plans[0].Devices); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"GPU-c", "GPU-d"}, devicesOf(plans[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// And all viable ones are returned, so that a caller whose first does not hold has the next.
	if plans := Plan(n, request(t, even(1, GiB(40)), even(2, GiB(20))), MostAllocated); len(plans) != 2 {
		t.Errorf("got %d plans, want one for each option", len(plans))
	}
}

func TestRegressionMoreUsedThanThereIsDoesNotWrapAround(t *testing.T) {
	n := node(gpu(0, 80, 81))
	if free := n.Devices[0].Free(); !free.IsZero() {
		t.Errorf("%v free on a GPU with more used than it has", free)
	}
	if Fits(n, request(t, even(1, GiB(1)))) {
		t.Error("1Gi fits on a GPU with more used than it has")
	}
	var over *OverbookedError
	if err := Validate(n, []DeviceShare{{"GPU-a", GiB(1)}}); !errors.As(err, &over) || over.Over() != GiB(1) {
		t.Errorf("got %v, want an OverbookedError of 1Gi", err)
	}
}

func TestRegressionNoOptionButThoseOfTheRequestIsOffered(t *testing.T) {
	// A model with 32 heads cannot run on three GPUs. Which counts it can run on is for the request to say; three
	// free GPUs do not make an option of three.
	n := node(gpu(0, 80, 0), gpu(1, 80, 0), gpu(2, 80, 0))
	for _, a := range Plan(n, request(t, even(2, GiB(60)), even(4, GiB(30))), MostAllocated) {
		if len(a.Devices) != 2 || a.TensorParallelSize != 2 {
			t.Errorf("offered %d devices at tensor-parallel size %d", len(a.Devices), a.TensorParallelSize)
		}
	}
}

func TestRegressionWhatEachGPUNeedsOnTopIsBookedOnEach(t *testing.T) {
	// 100 GiB split evenly is 50 each, but each GPU also needs 2 GiB outside: 52 do not fit into 51.
	n := node(gpu(0, 80, 29), gpu(1, 80, 29))
	if Fits(n, request(t, even(2, GiB(52)))) {
		t.Error("52Gi fit into 51Gi")
	}
	// An engine that takes 92 % of each GPU's total, and 2 GiB outside of it, is booked with that.
	o := even(2, GiB(30))
	o.Take, o.Outside = 920_000, GiB(2)
	n = node(gpu(0, 80, 0), gpu(1, 80, 0))
	got, ok := Best(n, request(t, o), MostAllocated)
	if !ok {
		t.Fatal("no allocation")
	}
	// 80.5 GiB × 0.92 + 2 GiB
	if want := Ratio(920_000).Of(MiB(80*1024 + 512)).Plus(GiB(2)); got.Devices[0].Memory != want || got.Devices[1].Memory != want {
		t.Errorf("booked %v, want %v on each", got.Devices, want)
	}
}

func TestRegressionUnknownMemoryIsNotZeroMemory(t *testing.T) {
	// 0 always fits, so nothing can be asked for with 0: neither as an option, nor as a share, nor as a booking.
	for _, o := range []Option{{TensorParallelSize: 1}, even(1, Bytes{}), {Shares: []Bytes{GiB(1), {}}, TensorParallelSize: 1}} {
		if _, err := NewRequest([]Option{o}, false); err == nil {
			t.Errorf("a request for %v was accepted", o.Shares)
		}
	}
	n := node(gpu(0, 80, 0))
	if err := Validate(n, []DeviceShare{{"GPU-a", Bytes{}}}); !errors.Is(err, ErrZeroMemory) {
		t.Errorf("got %v, want %v", err, ErrZeroMemory)
	}
	var zero Request
	if Fits(n, &zero) || CanEverFit(n, &zero) || len(Plan(n, &zero, MostAllocated)) > 0 {
		t.Error("the zero Request fits")
	}
	if _, ok := EvictBest(n, &zero, nil, nil); ok {
		t.Error("the zero Request can be made to fit")
	}
}

func TestRegressionMeasuredUseCountsWhateverIsBooked(t *testing.T) {
	// Used is the larger of what is booked and what is measured: 10 GiB booked and 50 measured are 50.
	n := node(gpu(0, 80, 50))
	if Fits(n, request(t, even(1, GiB(31)))) {
		t.Error("31Gi fit beside 50Gi on 80Gi")
	}
	if !Fits(n, request(t, even(1, GiB(30)))) {
		t.Error("30Gi do not fit beside 50Gi on 80Gi")
	}
}
