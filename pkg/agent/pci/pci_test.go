// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package pci

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"github.com/berth-dev/berth/pkg/agent"
)

// sysfs makes a sysfs with the devices at these paths, and the NUMA node of each.
func sysfs(t *testing.T, devices map[string]string) string {
	t.Helper()
	root := t.TempDir()
	bus := filepath.Join(root, "bus/pci/devices")
	if err := os.MkdirAll(bus, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, numa := range devices {
		device := filepath.Join(root, "devices", path)
		if err := os.MkdirAll(device, 0o755); err != nil {
			t.Fatal(err)
		}
		if numa != "" {
			if err := os.WriteFile(filepath.Join(device, "numa_node"), []byte(numa+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		target, err := filepath.Rel(bus, device)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(bus, filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

type place struct {
	NUMANode   *int32
	PCIeSwitch string
}

// fixed is a reader of devices at these addresses.
type fixed []agent.Device

func (f fixed) Read(context.Context) (*agent.Reading, error) {
	return &agent.Reading{Devices: append([]agent.Device(nil), f...)}, nil
}

func (fixed) Close() error { return nil }

func read(t *testing.T, r *Reader) []place {
	t.Helper()
	reading, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var places []place
	for _, d := range reading.Devices {
		places = append(places, place{d.NUMANode, d.PCIeSwitch})
	}
	return places
}

func TestWhereGPUsAreAttached(t *testing.T) {
	tests := []struct {
		name  string
		sysfs map[string]string
		gpus  fixed
		want  []place
	}{
		{
			name: "GPUs behind switches on two sockets",
			sysfs: map[string]string{
				// Root port, upstream port, downstream port, GPU.
				"pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:00.0/0000:1b:00.0": "0",
				"pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:01.0/0000:1c:00.0": "0",
				"pci0000:97/0000:97:01.0/0000:98:00.0/0000:99:00.0/0000:9b:00.0": "1",
			},
			gpus: fixed{{PCIBusID: "00000000:1B:00.0"}, {PCIBusID: "00000000:1C:00.0"}, {PCIBusID: "00000000:9B:00.0"}},
			want: []place{{ptr.To[int32](0), "0000:16:00.0"}, {ptr.To[int32](0), "0000:16:00.0"}, {ptr.To[int32](1), ""}},
		},
		{
			name:  "a virtual machine that does not say the NUMA node",
			sysfs: map[string]string{"pci0000:00/0000:00:05.0": "-1", "pci0000:00/0000:00:06.0": ""},
			gpus:  fixed{{PCIBusID: "00000000:00:05.0"}, {PCIBusID: "00000000:00:06.0"}},
			want:  []place{{}, {}},
		},
		{
			name:  "a domain of more than four digits, as behind a VMD or on Azure",
			sysfs: map[string]string{"pci10000:00/10000:00:02.0/10000:01:00.0": "1"},
			gpus:  fixed{{PCIBusID: "00010000:01:00.0"}},
			want:  []place{{ptr.To[int32](1), ""}},
		},
		{
			name:  "MIG instances are where their GPU is, and do not share a switch with it",
			sysfs: map[string]string{"pci0000:00/0000:00:01.0/0000:07:00.0": "1"},
			gpus:  fixed{{UUID: "GPU-a", PCIBusID: "00000000:07:00.0"}, {UUID: "MIG-a", Parent: "GPU-a", PCIBusID: "00000000:07:00.0"}},
			want:  []place{{ptr.To[int32](1), ""}, {ptr.To[int32](1), ""}},
		},
		{
			name: "no sysfs, no address, an address that is a path",
			gpus: fixed{{PCIBusID: "00000000:07:00.0"}, {}, {PCIBusID: "0000:../../../devices"}},
			want: []place{{}, {}, {}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(tt.gpus, sysfs(t, tt.sysfs))
			if diff := cmp.Diff(tt.want, read(t, r)); diff != "" {
				t.Errorf("(-want,+got):\n%s", diff)
			}
		})
	}
}

// A GPU that falls off the bus vanishes from sysfs too.
func TestALostGPUStaysWhereItWas(t *testing.T) {
	root := sysfs(t, map[string]string{
		"pci0000:00/0000:00:01.0/0000:07:00.0": "1", "pci0000:00/0000:00:01.0/0000:08:00.0": "1",
	})
	r := NewReader(fixed{{PCIBusID: "00000000:07:00.0"}, {PCIBusID: "00000000:08:00.0"}}, root)
	want := read(t, r)
	if want[0].PCIeSwitch != "0000:00:01.0" {
		t.Fatalf("the switch is %q", want[0].PCIeSwitch)
	}
	if err := os.Remove(filepath.Join(root, "bus/pci/devices/0000:07:00.0")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read(t, r)); diff != "" {
		t.Errorf("(-before,+after):\n%s", diff)
	}
}
