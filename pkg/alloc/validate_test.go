// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"testing"

	"github.com/berth-dev/berth/pkg/alloc"
)

func TestValidateNamesTheGPUAndByHowMuchItIsOver(t *testing.T) {
	n := node(gpu(0, 80, 0), gpu(1, 80, 50), blocked(gpu(2, 80, 0), alloc.ReasonUnhealthy), instance("MIG-a", 3, 40), instance("MIG-b", 3, 40))
	for _, tc := range []struct {
		name string
		a    []alloc.DeviceShare
		want string
		is   error
	}{
		{name: "all that is free", a: []alloc.DeviceShare{{"GPU-b", alloc.GiB(30)}, {"GPU-a", alloc.GiB(80)}}},
		{
			name: "one byte too much",
			a:    []alloc.DeviceShare{{"GPU-a", alloc.GiB(80).Plus(alloc.BytesOf(1))}},
			want: "GPU 0 (GPU-a): needs 80Gi, has 80Gi free, over by 1",
		},
		{
			name: "enough in total, but not on each",
			a:    []alloc.DeviceShare{{"GPU-a", alloc.GiB(40)}, {"GPU-b", alloc.GiB(40)}},
			want: "GPU 1 (GPU-b): needs 40Gi, has 30Gi free, over by 10Gi",
		},
		{
			name: "a blocked GPU", a: []alloc.DeviceShare{{"GPU-c", alloc.GiB(1)}},
			want: "GPU 2 (GPU-c): the GPU is unhealthy",
		},
		{
			name: "an unknown GPU", a: []alloc.DeviceShare{{"GPU-z", alloc.GiB(1)}}, is: alloc.ErrUnknownDevice,
			want: `GPU "GPU-z": the node has no such device`,
		},
		{
			name: "the same GPU twice", a: []alloc.DeviceShare{{"GPU-a", alloc.GiB(1)}, {"GPU-a", alloc.GiB(1)}}, is: alloc.ErrDuplicateDevice,
			want: "GPU 0 (GPU-a): the device is in the allocation twice",
		},
		{
			name: "zero bytes", a: []alloc.DeviceShare{{"GPU-a", alloc.Bytes{}}}, is: alloc.ErrZeroMemory,
			want: "GPU 0 (GPU-a): zero bytes would be booked",
		},
		{name: "a MIG instance alone", a: []alloc.DeviceShare{{"MIG-a", alloc.GiB(10)}}},
		{
			name: "two MIG instances of one GPU", a: []alloc.DeviceShare{{"MIG-a", alloc.GiB(10)}, {"MIG-b", alloc.GiB(10)}}, is: alloc.ErrNotAlone,
			want: "GPU 3 (MIG-a): a MIG instance cannot be used together with other devices",
		},
		{
			name: "a MIG instance beside a GPU", a: []alloc.DeviceShare{{"GPU-a", alloc.GiB(10)}, {"MIG-a", alloc.GiB(10)}}, is: alloc.ErrNotAlone,
			want: "GPU 3 (MIG-a): a MIG instance cannot be used together with other devices",
		},
		{name: "no GPUs", is: alloc.ErrNoDevices, want: "the allocation has no devices"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := alloc.Validate(n, tc.a)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is not %v", err, tc.is)
			}
		})
	}
}

func TestLargestIsTheLargestEvenShare(t *testing.T) {
	n := node(gpu(0, 80, 80), blocked(gpu(1, 80, 0), alloc.ReasonUnhealthy), model(gpu(2, 94, 0), "H200"), model(gpu(3, 48, 0), "L40S"))
	for _, tc := range []struct {
		devices int
		mixed   bool
		want    alloc.Bytes
	}{
		{1, false, alloc.GiB(94)},
		{2, false, alloc.GiB(80)}, // two of one model
		{3, false, alloc.Bytes{}},
		{3, true, alloc.GiB(80)},
		{4, true, alloc.GiB(48)},
		{5, true, alloc.Bytes{}},
		{0, true, alloc.Bytes{}},
	} {
		if got := alloc.Largest(n, tc.devices, tc.mixed); got != tc.want {
			t.Errorf("%d devices, mixed %v: got %v, want %v", tc.devices, tc.mixed, got, tc.want)
		}
	}
}

func TestNewRequestRefusesWhatCannotBePlanned(t *testing.T) {
	tooMany := even(alloc.MaxDevices+1, alloc.GiB(1))
	noSize := even(1, alloc.GiB(1))
	noSize.TensorParallelSize = 0
	for name, options := range map[string][]alloc.Option{
		"no options":                     nil,
		"an option of no devices":        {{TensorParallelSize: 1}},
		"too many devices":               {tooMany},
		"two options of one count":       {even(2, alloc.GiB(1)), even(2, alloc.GiB(2))},
		"shares that are not sorted":     {{Shares: []alloc.Bytes{alloc.GiB(1), alloc.GiB(2)}, TensorParallelSize: 1}},
		"a share of zero":                {{Shares: []alloc.Bytes{{}}, TensorParallelSize: 1}},
		"a tensor-parallel size of zero": {noSize},
	} {
		if _, err := alloc.NewRequest(options, true); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOptionsAreInTheOrderOfPreference(t *testing.T) {
	r := request(t, even(4, alloc.GiB(1)), even(1, alloc.GiB(1)), even(2, alloc.GiB(1)))
	for i, want := range []int{1, 2, 4} {
		if got := len(r.Options()[i].Shares); got != want {
			t.Errorf("option %d has %d devices, want %d", i, got, want)
		}
	}
}

func TestANodeOfMoreDevicesThanCanBePlannedFitsNothing(t *testing.T) {
	n := busyNode(alloc.MaxDevices)
	n.Devices = append(n.Devices, gpu(3, 80, 0))
	r := request(t, even(1, alloc.GiB(1)))
	if alloc.Fits(n, r) || alloc.CanEverFit(n, r) || len(alloc.Plan(n, r, alloc.MostAllocated)) > 0 {
		t.Error("it fits")
	}
	if reason, never := alloc.Unfit(n, r); reason != alloc.ReasonTooManyDevices || !never {
		t.Errorf("got %q, never %v", reason, never)
	}
}
