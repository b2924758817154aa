// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"errors"
	"testing"
)

func TestValidateNamesTheGPUAndByHowMuchItIsOver(t *testing.T) {
	n := node(gpu(0, 80, 0), gpu(1, 80, 50), blocked(gpu(2, 80, 0), ReasonUnhealthy), instance("MIG-a", 3, 40), instance("MIG-b", 3, 40))
	for _, tc := range []struct {
		name string
		a    []DeviceShare
		want string
		is   error
	}{
		{name: "all that is free", a: []DeviceShare{{"GPU-b", GiB(30)}, {"GPU-a", GiB(80)}}},
		{
			name: "one byte too much",
			a:    []DeviceShare{{"GPU-a", GiB(80).Plus(BytesOf(1))}},
			want: "GPU 0 (GPU-a): needs 80Gi, has 80Gi free, over by 1",
		},
		{
			name: "enough in total, but not on each",
			a:    []DeviceShare{{"GPU-a", GiB(40)}, {"GPU-b", GiB(40)}},
			want: "GPU 1 (GPU-b): needs 40Gi, has 30Gi free, over by 10Gi",
		},
		{
			name: "a blocked GPU", a: []DeviceShare{{"GPU-c", GiB(1)}},
			want: "GPU 2 (GPU-c): the GPU is unhealthy",
		},
		{
			name: "an unknown GPU", a: []DeviceShare{{"GPU-z", GiB(1)}}, is: ErrUnknownDevice,
			want: `GPU "GPU-z": the node has no such device`,
		},
		{
			name: "the same GPU twice", a: []DeviceShare{{"GPU-a", GiB(1)}, {"GPU-a", GiB(1)}}, is: ErrDuplicateDevice,
			want: "GPU 0 (GPU-a): the device is in the allocation twice",
		},
		{
			name: "zero bytes", a: []DeviceShare{{"GPU-a", Bytes{}}}, is: ErrZeroMemory,
			want: "GPU 0 (GPU-a): zero bytes would be booked",
		},
		{name: "a MIG instance alone", a: []DeviceShare{{"MIG-a", GiB(10)}}},
		{
			name: "two MIG instances of one GPU", a: []DeviceShare{{"MIG-a", GiB(10)}, {"MIG-b", GiB(10)}}, is: ErrNotAlone,
			want: "GPU 3 (MIG-a): a MIG instance cannot be used together with other devices",
		},
		{
			name: "a MIG instance beside a GPU", a: []DeviceShare{{"GPU-a", GiB(10)}, {"MIG-a", GiB(10)}}, is: ErrNotAlone,
			want: "GPU 3 (MIG-a): a MIG instance cannot be used together with other devices",
		},
		{name: "no GPUs", is: ErrNoDevices, want: "the allocation has no devices"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Validate(n, tc.a)
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
	n := node(gpu(0, 80, 80), blocked(gpu(1, 80, 0), ReasonUnhealthy), model(gpu(2, 94, 0), "H200"), model(gpu(3, 48, 0), "L40S"))
	for _, tc := range []struct {
		devices int
		mixed   bool
		want    Bytes
	}{
		{1, false, GiB(94)},
		{2, false, GiB(80)}, // two of one model
		{3, false, Bytes{}},
		{3, true, GiB(80)},
		{4, true, GiB(48)},
		{5, true, Bytes{}},
		{0, true, Bytes{}},
	} {
		if got := Largest(n, tc.devices, tc.mixed); got != tc.want {
			t.Errorf("%d devices, mixed %v: got %v, want %v", tc.devices, tc.mixed, got, tc.want)
		}
	}
}

func TestNewRequestRefusesWhatCannotBePlanned(t *testing.T) {
	tooMany := even(MaxDevices+1, GiB(1))
	noSize := even(1, GiB(1))
	noSize.TensorParallelSize = 0
	for name, options := range map[string][]Option{
		"no options":                     nil,
		"an option of no devices":        {{TensorParallelSize: 1}},
		"too many devices":               {tooMany},
		"two options of one count":       {even(2, GiB(1)), even(2, GiB(2))},
		"shares that are not sorted":     {{Shares: []Bytes{GiB(1), GiB(2)}, TensorParallelSize: 1}},
		"a share of zero":                {{Shares: []Bytes{{}}, TensorParallelSize: 1}},
		"a tensor-parallel size of zero": {noSize},
	} {
		if _, err := NewRequest(options, true); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOptionsAreInTheOrderOfPreference(t *testing.T) {
	r := request(t, even(4, GiB(1)), even(1, GiB(1)), even(2, GiB(1)))
	for i, want := range []int{1, 2, 4} {
		if got := len(r.Options()[i].Shares); got != want {
			t.Errorf("option %d has %d devices, want %d", i, got, want)
		}
	}
}

func TestANodeOfMoreDevicesThanCanBePlannedFitsNothing(t *testing.T) {
	n := busyNode(MaxDevices)
	n.Devices = append(n.Devices, gpu(3, 80, 0))
	r := request(t, even(1, GiB(1)))
	if Fits(n, r) || CanEverFit(n, r) || len(Plan(n, r, MostAllocated)) > 0 {
		t.Error("it fits")
	}
	if reason, never := Unfit(n, r); reason != ReasonTooManyDevices || !never {
		t.Errorf("got %q, never %v", reason, never)
	}
}
