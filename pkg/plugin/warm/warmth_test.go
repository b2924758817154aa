// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import (
	"testing"
	"time"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestWhatIsTold(t *testing.T) {
	n := &alloc.Node{Name: "n", Devices: []alloc.Device{{UUID: "GPU-0"}, {UUID: "GPU-1", Index: 1}, {UUID: "GPU-2", Index: 2}}}
	on := func(gpus ...string) *alloc.Allocation {
		a := &alloc.Allocation{}
		for _, g := range gpus {
			a.Devices = append(a.Devices, alloc.DeviceShare{UUID: g, Memory: alloc.GiB(1)})
		}
		return a
	}
	ran := []Ran{{"GPU-0", bt.Epoch.Add(-12 * time.Minute)}, {"GPU-1", bt.Epoch.Add(-30 * time.Second)}}
	sleeper := Sleeper{Pod: "pod team/p", Device: 2, Index: 2, Holds: alloc.MiB(1536), Booked: alloc.GiB(60), Loaded: true}
	unloaded := sleeper
	unloaded.Loaded = false
	size := alloc.MiB(14541)
	for _, tc := range []struct {
		name  string
		w     Warmth
		a     *alloc.Allocation
		level Level
		noun  string
		size  alloc.Bytes
		want  string
	}{
		{"its GPU", Warmth{GPUs: 3, Ran: ran}, on("GPU-0"), GPUs, "model", size, "its model ran on this GPU until 12m ago, 14.2Gi of files may be cached"},
		{"its GPUs, of which the older says when", Warmth{GPUs: 3, Ran: ran}, on("GPU-0", "GPU-1"), GPUs, "workload", alloc.Bytes{}, "its workload ran on these GPUs until 12m ago, its files may be cached"},
		{"its node, of which the newer says when", Warmth{GPUs: 3, Ran: ran}, on("GPU-2"), Files, "model", alloc.Bytes{}, "its model ran on the node until 30s ago, its files may be cached"},
		{"a pod that runs", Warmth{Runs: "pod team/p", Ran: ran}, on("GPU-2"), Files, "model", size, "pod team/p with the same model runs on the node, 14.2Gi of files may be cached"},
		{"one that sleeps", Warmth{GPUs: 4, Asleep: []Sleeper{sleeper}}, on("GPU-2"), GPUs, "model", size, "pod team/p with the same model sleeps on GPU 2, where it holds 1.5Gi of 60Gi"},
		{"one that sleeps beside it", Warmth{GPUs: 4, Asleep: []Sleeper{sleeper}}, on("GPU-0"), Files, "model", size, "pod team/p with the same model sleeps on GPU 2, where it holds 1.5Gi of 60Gi"},
		{
			"one of an engine that is Ready without a model", Warmth{GPUs: 4, Asleep: []Sleeper{unloaded}}, on("GPU-2"), GPUs, "model", size,
			"pod team/p with the same model has it unloaded, or not loaded yet, on GPU 2, where it holds 1.5Gi of 60Gi",
		},
		{"its images", Warmth{ImageBytes: alloc.GiB(14)}, on("GPU-2"), Files, "set of image volumes", alloc.Bytes{}, "its image volumes (14Gi) are on the node"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.w.Tell(n, tc.a, tc.level, tc.noun, tc.size, bt.Epoch); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestWhatSleepIs(t *testing.T) {
	for _, tc := range []struct {
		name          string
		holds, booked alloc.Bytes
		want          bool
	}{
		{"a quarter of what it booked", alloc.GiB(10), alloc.GiB(40), true},
		{"more", alloc.GiB(11), alloc.GiB(40), false},
		{"not measured", alloc.Bytes{}, alloc.GiB(40), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := IsAsleep(tc.holds, tc.booked); got != tc.want {
				t.Errorf("%t", got)
			}
		})
	}
}
