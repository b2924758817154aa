// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/agent"
)

// The memory columns of the lines were published; the addresses and, where the source has none, the UUIDs are made up.
func TestParseGPUs(t *testing.T) {
	for _, tc := range []struct {
		name, line, source string
		want               smiGPU
	}{
		{
			name:   "used does not contain what the driver reserves",
			line:   "0, GPU-00704267-0000-4000-8000-000000000000, NVIDIA GeForce RTX 5070 Ti, 00000000:01:00.0, 580.88, 16303, 14109, 1799\n",
			source: "a Korean guide to Ollama on WSL 2, --format=csv",
			want: smiGPU{
				UUID: "GPU-00704267-0000-4000-8000-000000000000", Name: "NVIDIA GeForce RTX 5070 Ti", BusID: "00000000:01:00.0", Driver: "580.88",
				Total: new(uint64(16303)), Free: new(uint64(14109)), Used: new(uint64(1799)),
			},
		},
		{
			name:   "before R510 used is all that is not free",
			line:   "3, GPU-b884db58-6340-7969-a79f-b937f3583884, Tesla V100-PCIE-16GB, 00000000:19:00.0, 418.87.01, 16160, 15666, 494\n",
			source: "the figures: a course on Keras; the rest: github.com/eBay/nvidiagpubeat pull 30",
			want: smiGPU{
				Index: 3, UUID: "GPU-b884db58-6340-7969-a79f-b937f3583884", Name: "Tesla V100-PCIE-16GB", BusID: "00000000:19:00.0",
				Driver: "418.87.01", Total: new(uint64(16160)), Free: new(uint64(15666)), Used: new(uint64(494)),
			},
		},
		{
			name:   "unified memory",
			line:   "0, GPU-00000000-0000-4000-8000-000000000000, NVIDIA GB10, 0000000F:01:00.0, 580.95.05, [N/A], [N/A], [N/A]\n",
			source: "a course on DGX Spark",
			want: smiGPU{
				UUID: "GPU-00000000-0000-4000-8000-000000000000", Name: "NVIDIA GB10", BusID: "0000000F:01:00.0", Driver: "580.95.05",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseGPUs(tc.line)
			if diff := cmp.Diff([]smiGPU{tc.want}, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got, source: %s):\n%s", err, tc.source, diff)
			}
		})
	}
}

func TestParseApps(t *testing.T) {
	// Two processes on one GPU, from a log of benchmarks on H100s; a process of another user's; no process is no line.
	got, err := parseApps("GPU-e82ab913-2d6b-1a55-89a8-9ad23a5a09cf, 2069192, 77002\n" +
		"GPU-e82ab913-2d6b-1a55-89a8-9ad23a5a09cf, 2680904, 518\n" +
		"GPU-f7c1496c-b7f5-b1d2-78ea-68826f778059, 524, [Insufficient Permissions]\n")
	want := []smiApp{
		{UUID: "GPU-e82ab913-2d6b-1a55-89a8-9ad23a5a09cf", PID: 2069192, Used: new(uint64(77002))},
		{UUID: "GPU-e82ab913-2d6b-1a55-89a8-9ad23a5a09cf", PID: 2680904, Used: new(uint64(518))},
		{UUID: "GPU-f7c1496c-b7f5-b1d2-78ea-68826f778059", PID: 524},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := parseApps(""); err != nil || len(got) != 0 {
		t.Errorf("no process: %v, %v", got, err)
	}
}

func TestNoTableIsAnError(t *testing.T) {
	for _, text := range []string{
		"No devices were found\n",
		"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n",
		"0, GPU-1, NVIDIA L4, 00000000:01:00.0, 580.88, 16303 MiB, 14109 MiB, 1799 MiB\n",
	} {
		if got, err := parseGPUs(text); err == nil {
			t.Errorf("parseGPUs(%q) = %v", text, got)
		}
	}
}

func TestDifferences(t *testing.T) {
	device := func(usedMiB uint64, processMiB uint64) *agent.Device {
		return &agent.Device{
			UUID: "GPU-1", Index: 0, Model: "NVIDIA L4", PCIBusID: "00000000:0A:00.0",
			Memory:    agent.Memory{Total: 23034 * mib, Reserved: 400 * mib, Used: usedMiB * mib},
			Processes: []agent.Process{{PID: 7, Memory: processMiB * mib}},
		}
	}
	// free = 23034 - 400 - 1000
	said := func() *smi {
		return &smi{
			GPUs: []smiGPU{{
				UUID: "GPU-1", Name: "NVIDIA L4", BusID: "00000000:0a:00.0",
				Total: new(uint64(23034)), Free: new(uint64(21634)), Used: new(uint64(1000)),
			}},
			Apps: []smiApp{{UUID: "GPU-1", PID: 7, Used: new(uint64(900))}, {UUID: "GPU-2", PID: 8, Used: new(uint64(900))}},
		}
	}
	for _, tc := range []struct {
		name          string
		before, after *agent.Device
		edit          func(*smi)
		want          []string
	}{
		{name: "they agree", before: device(1000, 900), after: device(1000, 900)},
		{name: "rounding is no difference", before: device(1001, 901), after: device(1001, 901)},
		{name: "memory grew between the two readings", before: device(800, 700), after: device(1200, 1100)},
		{
			name: "the agent takes what is reserved for used", before: device(1400, 900), after: device(1400, 900),
			want: []string{
				"memory.free in MiB: the agent says 21234, then 21234, nvidia-smi 21634",
				"memory.used in MiB: the agent says 1400, then 1400, nvidia-smi 1000",
			},
		},
		{
			name: "a process has more", before: device(1000, 900), after: device(1000, 900),
			edit: func(s *smi) { s.Apps[0].Used = new(uint64(950)) },
			want: []string{"memory of process 7 in MiB: the agent says 900, then 900, nvidia-smi 950"},
		},
		{
			name: "a process is missing", before: device(1000, 900), after: device(1000, 900),
			edit: func(s *smi) { s.Apps[0].PID = 9 },
			want: []string{"process 9: the agent says nothing, nvidia-smi that it is there"},
		},
		{
			name: "what nvidia-smi does not tell is not compared", before: device(1, 1), after: device(1, 1),
			edit: func(s *smi) { s.GPUs[0].Free, s.GPUs[0].Used, s.Apps[0].Used = nil, nil, nil },
		},
		{
			name: "another GPU", before: device(1000, 900), after: device(1000, 900),
			edit: func(s *smi) { s.GPUs[0].UUID = "GPU-3" },
			want: []string{"nvidia-smi does not list the GPU"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := said()
			if tc.edit != nil {
				tc.edit(s)
			}
			if diff := cmp.Diff(tc.want, s.differences(tc.before, tc.after)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
