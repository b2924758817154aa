// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-dev/berth/internal/alloctest"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestUnfitNamesTheReasonOfTheOptionThatComesClosest(t *testing.T) {
	for _, tc := range []struct {
		name  string
		n     *alloc.Node
		r     *alloc.Request
		want  alloc.Reason
		never bool
	}{
		{"it fits", node(gpu(0, 80, 0)), request(t, even(1, alloc.GiB(80))), "", false},
		{"a node without devices", node(), request(t, even(1, alloc.GiB(1))), alloc.ReasonNotEnoughDevices, true},
		{"more devices asked than there are", node(gpu(0, 80, 0)), request(t, even(2, alloc.GiB(1))), alloc.ReasonNotEnoughDevices, true},
		{"a device is too small even when empty", node(gpu(0, 80, 0)), request(t, even(1, alloc.GiB(81))), alloc.ReasonInsufficientCapacity, true},
		{"too much is in use", node(gpu(0, 80, 60)), request(t, even(1, alloc.GiB(21))), alloc.ReasonInsufficientFree, false},
		{
			"more is in use than can be booked",
			node(gpu(0, 80, 95)), request(t, even(1, alloc.GiB(1))), alloc.ReasonInsufficientFree, false,
		},
		{
			"two devices, but of unlike models",
			node(gpu(0, 80, 0), model(gpu(1, 80, 0), "A100")), request(t, even(2, alloc.GiB(10))), alloc.ReasonMixedModels, true,
		},
		{
			"the only device with room is unhealthy",
			node(blocked(gpu(0, 80, 0), alloc.ReasonUnhealthy), gpu(1, 80, 70)), request(t, even(1, alloc.GiB(40))), alloc.ReasonUnhealthy, false,
		},
		{
			"of two blocked devices, the one with room counts",
			node(blocked(gpu(0, 80, 80), alloc.ReasonUnhealthy), blocked(gpu(1, 80, 0), alloc.ReasonLoading)),
			request(t, even(1, alloc.GiB(40))), alloc.ReasonLoading, false,
		},
		{
			"a blocked device that is full would not help",
			node(blocked(gpu(0, 80, 80), alloc.ReasonUnhealthy)), request(t, even(1, alloc.GiB(40))), alloc.ReasonInsufficientFree, false,
		},
		{
			"one option is too large for ever, the other only now",
			node(gpu(0, 80, 30), gpu(1, 80, 30)), request(t, even(1, alloc.GiB(120)), even(2, alloc.GiB(60))), alloc.ReasonInsufficientFree, false,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reason, never := alloc.Unfit(tc.n, tc.r)
			if reason != tc.want || never != tc.never {
				t.Errorf("got %q, never %v; want %q, never %v", reason, never, tc.want, tc.never)
			}
		})
	}
}

func TestExplainSaysWhatEachDeviceLacks(t *testing.T) {
	// 100 GiB on four GPUs with 30 GiB free each: too much for one or two of them, but not for four. Of the two, each
	// lacks 50 − 30 = 20 GiB.
	n := node(gpu(0, 80, 50), gpu(1, 80, 50), gpu(2, 80, 50), blocked(gpu(3, 80, 50), alloc.ReasonLoading))
	got := alloc.Explain(n, request(t, even(1, alloc.GiB(100)), even(2, alloc.GiB(50))))
	device := func(i int, free, needed, short uint64, why alloc.Reason) alloc.DeviceVerdict {
		return alloc.DeviceVerdict{n.Devices[i].UUID, i, alloc.GiB(free), alloc.GiB(needed), alloc.GiB(short), why}
	}
	want := []alloc.OptionVerdict{
		{0, false, alloc.ReasonInsufficientCapacity, []alloc.DeviceVerdict{
			device(0, 30, 100, 70, alloc.ReasonInsufficientCapacity),
			device(1, 30, 100, 70, alloc.ReasonInsufficientCapacity),
			device(2, 30, 100, 70, alloc.ReasonInsufficientCapacity),
			device(3, 0, 100, 100, alloc.ReasonLoading),
		}},
		{1, false, alloc.ReasonInsufficientFree, []alloc.DeviceVerdict{
			device(0, 30, 50, 20, alloc.ReasonInsufficientFree),
			device(1, 30, 50, 20, alloc.ReasonInsufficientFree),
			device(2, 30, 50, 20, alloc.ReasonInsufficientFree),
			device(3, 0, 50, 50, alloc.ReasonLoading),
		}},
	}
	if diff := cmp.Diff(want, got, alloctest.CompareBytes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExplainAsksTheFreestDeviceForTheLargestShare(t *testing.T) {
	n := node(gpu(0, 80, 70), gpu(1, 80, 40), gpu(2, 80, 60))
	got := alloc.Explain(n, request(t, alloc.Option{Shares: []alloc.Bytes{alloc.GiB(30), alloc.GiB(20), alloc.GiB(15)}, TensorParallelSize: 1}))
	var needed []alloc.Bytes
	for _, d := range got[0].Devices {
		needed = append(needed, d.Needed)
	}
	// 40 GiB free must take 30, 20 free 20, and 10 free 15: that is the one that fails.
	if diff := cmp.Diff([]alloc.Bytes{alloc.GiB(15), alloc.GiB(30), alloc.GiB(20)}, needed, alloctest.CompareBytes); diff != "" {
		t.Errorf("needed (-want +got):\n%s", diff)
	}
	if got[0].Fits || got[0].Devices[0].Short != alloc.GiB(5) {
		t.Errorf("got %+v, want it to be 5Gi short on GPU 0 alone", got[0])
	}
}

// TestExplainAgreesWithFits: an option fits exactly if it has no reason, and then as many devices as it needs have
// none either.
func TestExplainAgreesWithFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, r := drawNode(t, 6), drawRequest(t, 4)
		fits := false
		for _, v := range alloc.Explain(n, r) {
			fits = fits || v.Fits
			if v.Fits != (v.Reason == "") {
				t.Fatalf("fits %v with reason %q", v.Fits, v.Reason)
			}
			able := 0
			for _, d := range v.Devices {
				if d.Reason == "" {
					able++
				}
				if d.Short != d.Needed.Minus(d.Free) || d.Reason == "" && !d.Short.IsZero() {
					t.Fatalf("device %+v", d)
				}
			}
			if k := len(r.Options()[v.Option].Shares); v.Fits && able < k {
				t.Fatalf("it fits, but only %d of %d devices can hold their share", able, k)
			}
		}
		reason, never := alloc.Unfit(n, r)
		if fits != alloc.Fits(n, r) || fits != (reason == "") || never && fits || never == alloc.CanEverFit(n, r) {
			t.Fatalf("Explain says it fits: %v, Fits %v, Unfit %q, never %v", fits, alloc.Fits(n, r), reason, never)
		}
	})
}
