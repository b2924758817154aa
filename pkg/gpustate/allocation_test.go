// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestDecodeAllocation(t *testing.T) {
	two := `"devices":[{"uuid":"GPU-a","memory":"21474836480"},{"uuid":"GPU-b","memory":"1"}]`
	known := &Allocation{
		Devices:            []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.GiB(20)}, {UUID: "GPU-b", Memory: alloc.BytesOf(1)}},
		TensorParallelSize: 2,
		Runtime:            berthv1alpha1.RuntimeVLLM,
	}
	whole := &Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-a"}, {UUID: "GPU-b"}}, Whole: true}
	for _, tc := range []struct {
		name, in string
		want     *Allocation
		err      string
	}{
		{name: "the version that is written", in: `{"version":1,` + two + `,"tensorParallelSize":2,"runtime":"vllm"}`, want: known},
		{name: "fields that a later release adds", in: `{"version":1,` + two + `,"tensorParallelSize":2,"runtime":"vllm","x":{}}`, want: known},
		{
			name: "a correction", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"3"}],"correction":"2"}`,
			want: &Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.BytesOf(3)}}, Correction: alloc.BytesOf(2)},
		},
		{
			name: "a correction that is no number, by which nothing is booked", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"3"}],"correction":"2Gi"}`,
			want: &Allocation{Devices: []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.BytesOf(3)}}},
		},
		{name: "an unknown version charges its devices whole", in: `{"version":2,` + two + `}`, want: whole},
		{
			name: "an unknown version that writes everything but the UUIDs in another way",
			in:   `{"version":7,"devices":[{"uuid":"GPU-a","memory":{"bytes":1}},{"uuid":"GPU-b"}],"tensorParallelSize":"2"}`, want: whole,
		},
		{name: "an unknown version without devices", in: `{"version":2,"gpus":["GPU-a"]}`, err: "0 devices"},
		{name: "no JSON", in: "GPU-a", err: "allocation"},
		{name: "nothing", in: "", err: "allocation"},
		{name: "more after the JSON", in: `{"version":1,` + two + `}{}`, err: "allocation"},
		{name: "no version", in: `{` + two + `}`, err: "no version"},
		{name: "a negative version", in: `{"version":-1,` + two + `}`, err: "no version"},
		{name: "no devices", in: `{"version":1}`, err: "0 devices"},
		{name: "a device twice", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"1"},{"uuid":"GPU-a","memory":"1"}]}`, err: "device 1 has no UUID of its own"},
		{name: "a device without a UUID", in: `{"version":1,"devices":[{"memory":"1"}]}`, err: "device 0"},
		{name: "no memory", in: `{"version":1,"devices":[{"uuid":"GPU-a"}]}`, err: "memory"},
		{name: "zero memory, which always fits", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"0"}]}`, err: "above zero"},
		{name: "negative memory", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"-1"}]}`, err: "above zero"},
		{name: "memory beyond any device", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"18446744073709551615"}]}`, err: "above zero"},
		{name: "memory as a number, which may have been a float", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":1e9}]}`, err: "allocation"},
		{name: "memory with a unit", in: `{"version":1,"devices":[{"uuid":"GPU-a","memory":"20Gi"}]}`, err: "number of bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecodeAllocation(tc.in)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || got != nil {
					t.Fatalf("got %v, error %v, want an error that says %q", got, err, tc.err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got, bytesEqual); err != nil || diff != "" {
				t.Errorf("error %v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestEncodeAllocationWritesTheContract(t *testing.T) {
	got, err := EncodeAllocation(&Allocation{
		Devices: []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.GiB(20)}}, TensorParallelSize: 1, Runtime: berthv1alpha1.RuntimeCustom,
	})
	if want := bt.AllocationJSON("", "GPU-a=20Gi"); err != nil || got != want {
		t.Errorf("got %s, error %v, want %s", got, err, want)
	}
}

// TestAllocationRoundTrip: what is written is read as it was, whatever the devices and amounts.
func TestAllocationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, alloc.MaxDevices).Draw(t, "devices")
		want := &Allocation{TensorParallelSize: rapid.IntRange(1, 64).Draw(t, "tp"), Runtime: berthv1alpha1.Runtime(rapid.SampledFrom([]string{"vllm", "ollama", "llama.cpp", "custom"}).Draw(t, "runtime"))}
		for i := range n {
			want.Devices = append(want.Devices, alloc.DeviceShare{
				UUID: fmt.Sprintf("GPU-%d-%s", i, rapid.String().Draw(t, "uuid")), Memory: alloc.BytesOf(rapid.Uint64Range(1, 1<<62).Draw(t, "memory")),
			})
		}
		s, err := EncodeAllocation(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeAllocation(s)
		if diff := cmp.Diff(want, got, bytesEqual); err != nil || diff != "" {
			t.Fatalf("%s: error %v, (-want +got):\n%s", s, err, diff)
		}
	})
}

// FuzzDecodeAllocation: whatever is in the annotation, it is refused, or it names devices that can be told apart and
// books on each either all of it or more than nothing; and what was read can be written and read again.
func FuzzDecodeAllocation(f *testing.F) {
	f.Add(bt.AllocationJSON("vllm", "GPU-0=30Gi", "GPU-1=34Gi"))
	f.Add(`{"version":2,"devices":[{"uuid":"GPU-0"}]}`)
	f.Add(`{"version":1,"devices":[{"uuid":"GPU-0","memory":"00"}]}`)
	f.Add(`{"Version":1,"DEVICES":[{"UUID":"GPU-0","memory":"9223372036854775807"}]}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := DecodeAllocation(s)
		if err != nil {
			if a != nil {
				t.Fatalf("an allocation %v beside the error %v", a, err)
			}
			return
		}
		if len(a.Devices) == 0 || len(a.Devices) > alloc.MaxDevices {
			t.Fatalf("%d devices", len(a.Devices))
		}
		seen := map[string]bool{}
		for _, d := range a.Devices {
			if d.UUID == "" || seen[d.UUID] || d.Memory.IsZero() != a.Whole {
				t.Fatalf("device %+v, whole %v, of %v", d, a.Whole, a)
			}
			seen[d.UUID] = true
		}
		if a.Whole {
			return
		}
		again, err := EncodeAllocation(a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := DecodeAllocation(again); err != nil || cmp.Diff(a, b, bytesEqual) != "" {
			t.Fatalf("read again: %v, error %v, want %v", b, err, a)
		}
	})
}
