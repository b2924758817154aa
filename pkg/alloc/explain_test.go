// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// gpu returns a device of that capacity and use, all in GiB, with the index as its name.
func gpu(index int, capacity, used uint64) Device {
	return Device{
		UUID: "GPU-" + string(rune('a'+index)), Index: index, Model: "H100",
		Total: GiB(capacity).Plus(MiB(512)), Capacity: GiB(capacity), Used: GiB(used),
	}
}

func blocked(d Device, why Reason) Device {
	d.Blocked = why
	return d
}

func model(d Device, name string) Device {
	d.Model = name
	return d
}

func node(devices ...Device) *Node { return &Node{Name: "node", Devices: devices} }

func TestUnfitNamesTheReasonOfTheOptionThatComesClosest(t *testing.T) {
	for _, tc := range []struct {
		name  string
		n     *Node
		r     *Request
		want  Reason
		never bool
	}{
		{"it fits", node(gpu(0, 80, 0)), request(t, even(1, GiB(80))), "", false},
		{"a node without devices", node(), request(t, even(1, GiB(1))), ReasonNotEnoughDevices, true},
		{"more devices asked than there are", node(gpu(0, 80, 0)), request(t, even(2, GiB(1))), ReasonNotEnoughDevices, true},
		{"a device is too small even when empty", node(gpu(0, 80, 0)), request(t, even(1, GiB(81))), ReasonInsufficientCapacity, true},
		{"too much is in use", node(gpu(0, 80, 60)), request(t, even(1, GiB(21))), ReasonInsufficientFree, false},
		{
			"more is in use than can be booked",
			node(gpu(0, 80, 95)), request(t, even(1, GiB(1))), ReasonInsufficientFree, false,
		},
		{
			"two devices, but of unlike models",
			node(gpu(0, 80, 0), model(gpu(1, 80, 0), "A100")), request(t, even(2, GiB(10))), ReasonMixedModels, true,
		},
		{
			"the only device with room is unhealthy",
			node(blocked(gpu(0, 80, 0), ReasonUnhealthy), gpu(1, 80, 70)), request(t, even(1, GiB(40))), ReasonUnhealthy, false,
		},
		{
			"of two blocked devices, the one with room counts",
			node(blocked(gpu(0, 80, 80), ReasonUnhealthy), blocked(gpu(1, 80, 0), ReasonLoading)),
			request(t, even(1, GiB(40))), ReasonLoading, false,
		},
		{
			"a blocked device that is full would not help",
			node(blocked(gpu(0, 80, 80), ReasonUnhealthy)), request(t, even(1, GiB(40))), ReasonInsufficientFree, false,
		},
		{
			"one option is too large for ever, the other only now",
			node(gpu(0, 80, 30), gpu(1, 80, 30)), request(t, even(1, GiB(120)), even(2, GiB(60))), ReasonInsufficientFree, false,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reason, never := Unfit(tc.n, tc.r)
			if reason != tc.want || never != tc.never {
				t.Errorf("got %q, never %v; want %q, never %v", reason, never, tc.want, tc.never)
			}
		})
	}
}

func TestExplainSaysWhatEachDeviceLacks(t *testing.T) {
	// 100 GiB on four GPUs with 30 GiB free each: too much for one or two of them, but not for four. Of the two, each
	// lacks 50 − 30 = 20 GiB.
	n := node(gpu(0, 80, 50), gpu(1, 80, 50), gpu(2, 80, 50), blocked(gpu(3, 80, 50), ReasonLoading))
	got := Explain(n, request(t, even(1, GiB(100)), even(2, GiB(50))))
	device := func(i int, free, needed, short uint64, why Reason) DeviceVerdict {
		return DeviceVerdict{n.Devices[i].UUID, i, GiB(free), GiB(needed), GiB(short), why}
	}
	want := []OptionVerdict{
		{0, false, ReasonInsufficientCapacity, []DeviceVerdict{
			device(0, 30, 100, 70, ReasonInsufficientCapacity),
			device(1, 30, 100, 70, ReasonInsufficientCapacity),
			device(2, 30, 100, 70, ReasonInsufficientCapacity),
			device(3, 0, 100, 100, ReasonLoading),
		}},
		{1, false, ReasonInsufficientFree, []DeviceVerdict{
			device(0, 30, 50, 20, ReasonInsufficientFree),
			device(1, 30, 50, 20, ReasonInsufficientFree),
			device(2, 30, 50, 20, ReasonInsufficientFree),
			device(3, 0, 50, 50, ReasonLoading),
		}},
	}
	if diff := cmp.Diff(want, got, bytesComparer); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExplainAsksTheFreestDeviceForTheLargestShare(t *testing.T) {
	n := node(gpu(0, 80, 70), gpu(1, 80, 40), gpu(2, 80, 60))
	got := Explain(n, request(t, Option{Shares: []Bytes{GiB(30), GiB(20), GiB(15)}, TensorParallelSize: 1}))
	var needed []Bytes
	for _, d := range got[0].Devices {
		needed = append(needed, d.Needed)
	}
	// 40 GiB free must take 30, 20 free 20, and 10 free 15: that is the one that fails.
	if diff := cmp.Diff([]Bytes{GiB(15), GiB(30), GiB(20)}, needed, bytesComparer); diff != "" {
		t.Errorf("needed (-want +got):\n%s", diff)
	}
	if got[0].Fits || got[0].Devices[0].Short != GiB(5) {
		t.Errorf("got %+v, want it to be 5Gi short on GPU 0 alone", got[0])
	}
}

// TestExplainAgreesWithFits: an option fits exactly if it has no reason, and then as many devices as it needs have
// none either.
func TestExplainAgreesWithFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, r := drawNode(t, 6), drawRequest(t, 4)
		fits := false
		for _, v := range Explain(n, r) {
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
		reason, never := Unfit(n, r)
		if fits != Fits(n, r) || fits != (reason == "") || never && fits || never == CanEverFit(n, r) {
			t.Fatalf("Explain says it fits: %v, Fits %v, Unfit %q, never %v", fits, Fits(n, r), reason, never)
		}
	})
}
