// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/internal/alloctest"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Each test here is named after a bug of the allocator that Berth descends from, and fails if it comes back.

func TestRegressionAnOptionOfSeveralGPUsIsNotDroppedBecauseOneGPUIsFull(t *testing.T) {
	n := node(gpu(0, 80, 10), gpu(1, 80, 80), gpu(2, 80, 10), gpu(3, 80, 10))
	plans := alloc.Plan(n, request(t, even(3, alloc.GiB(60))), alloc.MostAllocated)
	if len(plans) != 1 {
		t.Fatalf("got %d plans, want 1", len(plans))
	}
	if diff := cmp.Diff([]string{"GPU-a", "GPU-c", "GPU-d"}, devicesOf(plans[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRegressionTheMemoryOfSeveralGPUsIsNotChargedToOne(t *testing.T) {
	// 100 GiB over two GPUs: 50 on each.
	n := node(gpu(0, 80, 0), gpu(1, 80, 0))
	got, ok := alloc.Best(n, request(t, even(2, alloc.GiB(50))), alloc.MostAllocated)
	if !ok {
		t.Fatal("no allocation")
	}
	if diff := cmp.Diff([]alloc.DeviceShare{{"GPU-a", alloc.GiB(50)}, {"GPU-b", alloc.GiB(50)}}, got.Devices, alloctest.CompareBytes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRegressionTheNextPlanIsTriedWhenTheFirstDoesNotHold(t *testing.T) {
	// By its total, the option of one GPU would be the cheapest, but no GPU can hold it; of the two pairs of one
	// model, one has a full GPU.
	n := node(gpu(0, 80, 0), gpu(1, 80, 79), model(gpu(2, 80, 30), "A100"), model(gpu(3, 80, 30), "A100"))
	r := request(t, even(1, alloc.GiB(90)), even(2, alloc.GiB(45)))
	plans := alloc.Plan(n, r, alloc.MostAllocated)
	if len(plans) != 1 {
		t.Fatalf("got %d plans, want 1", len(plans))
	}
	if err := alloc.Validate(n, plans[0].Devices); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"GPU-c", "GPU-d"}, devicesOf(plans[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// And all viable ones are returned, so that a caller whose first does not hold has the next.
	if plans := alloc.Plan(n, request(t, even(1, alloc.GiB(40)), even(2, alloc.GiB(20))), alloc.MostAllocated); len(plans) != 2 {
		t.Errorf("got %d plans, want one for each option", len(plans))
	}
}

func TestRegressionMoreUsedThanThereIsDoesNotWrapAround(t *testing.T) {
	n := node(gpu(0, 80, 81))
	if free := n.Devices[0].Free(); !free.IsZero() {
		t.Errorf("%v free on a GPU with more used than it has", free)
	}
	if alloc.Fits(n, request(t, even(1, alloc.GiB(1)))) {
		t.Error("1Gi fits on a GPU with more used than it has")
	}
	var over *alloc.OverbookedError
	if err := alloc.Validate(n, []alloc.DeviceShare{{"GPU-a", alloc.GiB(1)}}); !errors.As(err, &over) || over.Over() != alloc.GiB(1) {
		t.Errorf("got %v, want an OverbookedError of 1Gi", err)
	}
}

func TestRegressionNoOptionButThoseOfTheRequestIsOffered(t *testing.T) {
	// A model with 32 heads cannot run on three GPUs. Which counts it can run on is for the request to say; three
	// free GPUs do not make an option of three.
	n := node(gpu(0, 80, 0), gpu(1, 80, 0), gpu(2, 80, 0))
	for _, a := range alloc.Plan(n, request(t, even(2, alloc.GiB(60)), even(4, alloc.GiB(30))), alloc.MostAllocated) {
		if len(a.Devices) != 2 || a.TensorParallelSize != 2 {
			t.Errorf("offered %d devices at tensor-parallel size %d", len(a.Devices), a.TensorParallelSize)
		}
	}
}

func TestRegressionWhatEachGPUNeedsOnTopIsBookedOnEach(t *testing.T) {
	// 100 GiB split evenly is 50 each, but each GPU also needs 2 GiB outside: 52 do not fit into 51.
	n := node(gpu(0, 80, 29), gpu(1, 80, 29))
	if alloc.Fits(n, request(t, even(2, alloc.GiB(52)))) {
		t.Error("52Gi fit into 51Gi")
	}
	// An engine that takes 92 % of each GPU's total, and 2 GiB outside of it, is booked with that.
	o := even(2, alloc.GiB(30))
	o.Take, o.Outside = 920_000, alloc.GiB(2)
	n = node(gpu(0, 80, 0), gpu(1, 80, 0))
	got, ok := alloc.Best(n, request(t, o), alloc.MostAllocated)
	if !ok {
		t.Fatal("no allocation")
	}
	// 80.5 GiB × 0.92 + 2 GiB
	if want := alloc.Ratio(920_000).Of(alloc.MiB(80*1024 + 512)).Plus(alloc.GiB(2)); got.Devices[0].Memory != want || got.Devices[1].Memory != want {
		t.Errorf("booked %v, want %v on each", got.Devices, want)
	}
}

func TestRegressionUnknownMemoryIsNotZeroMemory(t *testing.T) {
	// 0 always fits, so nothing can be asked for with 0: neither as an option, nor as a share, nor as a booking.
	for _, o := range []alloc.Option{{TensorParallelSize: 1}, even(1, alloc.Bytes{}), {Shares: []alloc.Bytes{alloc.GiB(1), {}}, TensorParallelSize: 1}} {
		if _, err := alloc.NewRequest([]alloc.Option{o}, false); err == nil {
			t.Errorf("a request for %v was accepted", o.Shares)
		}
	}
	n := node(gpu(0, 80, 0))
	if err := alloc.Validate(n, []alloc.DeviceShare{{"GPU-a", alloc.Bytes{}}}); !errors.Is(err, alloc.ErrZeroMemory) {
		t.Errorf("got %v, want %v", err, alloc.ErrZeroMemory)
	}
	var zero alloc.Request
	if alloc.Fits(n, &zero) || alloc.CanEverFit(n, &zero) || len(alloc.Plan(n, &zero, alloc.MostAllocated)) > 0 {
		t.Error("the zero Request fits")
	}
}

func TestRegressionMeasuredUseCountsWhateverIsBooked(t *testing.T) {
	// Used is the larger of what is booked and what is measured: 10 GiB booked and 50 measured are 50.
	n := node(gpu(0, 80, 50))
	if alloc.Fits(n, request(t, even(1, alloc.GiB(31)))) {
		t.Error("31Gi fit beside 50Gi on 80Gi")
	}
	if !alloc.Fits(n, request(t, even(1, alloc.GiB(30)))) {
		t.Error("30Gi do not fit beside 50Gi on 80Gi")
	}
}
