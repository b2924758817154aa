// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"fmt"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
)

const gib = 1 << 30

// fill gives a server of go-nvml's mocks the calls that it lacks, which panic otherwise: each GPU has one process that
// computes and one that does not, and all are connected.
func fill(s *server.Server) {
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			WaitFunc: func(uint32) (nvml.EventData, nvml.Return) { return nvml.EventData{}, nvml.ERROR_TIMEOUT },
			FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		}, nvml.SUCCESS
	}
	for i := range s.Devices {
		d := s.Devices[i].(*server.Device)
		busy, idle := uint32(100+2*i), uint32(101+2*i)
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
			var pci nvml.PciInfo
			for j, c := range []byte(fmt.Sprintf("00000000:%02X:00.0", 16+i)) {
				pci.BusId[j] = int8(c)
			}
			return pci, nvml.SUCCESS
		}
		d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
			m := nvml.Memory_v2{Total: d.MemoryInfo.Total, Reserved: gib / 2, Used: 7 * gib}
			m.Free = m.Total - m.Used - m.Reserved
			return m, nvml.SUCCESS
		}
		d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: busy, UsedGpuMemory: 4 * gib}, {Pid: idle, UsedGpuMemory: 3 * gib}}, nvml.SUCCESS
		}
		// One that computes and draws is in both lists.
		d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: idle, UsedGpuMemory: 3 * gib}}, nvml.SUCCESS
		}
		d.GetMPSComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.SUCCESS }
		d.GetProcessUtilizationFunc = func(since uint64) ([]nvml.ProcessUtilizationSample, nvml.Return) {
			return []nvml.ProcessUtilizationSample{{Pid: busy, TimeStamp: since + 1, SmUtil: 90}, {}}, nvml.SUCCESS
		}
		d.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypeXidCriticalError, nvml.SUCCESS }
		d.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
		d.GetFieldValuesFunc = func(values []nvml.FieldValue) nvml.Return {
			values[0].NvmlReturn = uint32(nvml.ERROR_NOT_SUPPORTED)
			return nvml.SUCCESS
		}
		d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, nvml.SUCCESS }
		d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.SUCCESS }
		d.GetP2PStatusFunc = func(nvml.Device, nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
			return nvml.P2P_STATUS_OK, nvml.SUCCESS
		}
	}
}

func TestReaderOnTheMocksOfGoNVML(t *testing.T) {
	for _, tc := range []struct {
		name       string
		server     *server.Server
		model, cc  string
		totalBytes uint64
	}{
		{"DGX A100", dgxa100.New(), "Mock NVIDIA A100-SXM4-40GB", "8.0", 40960 << 20},
		{"DGX H100", dgxh100.New(), "NVIDIA H100 80GB HBM3", "9.0", 81920 << 20},
		{"DGX H200", dgxh200.New(), "NVIDIA H200 141GB HBM3e", "9.0", 144384 << 20},
		{"DGX B200", dgxb200.New(), "NVIDIA B200 180GB HBM3e", "10.0", 184320 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fill(tc.server)
			r := New(Options{Library: tc.server})
			reading, err := r.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(reading.Devices) != 8 || reading.DriverVersion != tc.server.DriverVersion || reading.Released {
				t.Fatalf("got %d devices, driver %q, released %t", len(reading.Devices), reading.DriverVersion, reading.Released)
			}
			for i, got := range reading.Devices {
				if len(got.Links) != 7 {
					t.Errorf("GPU %d has %d links", i, len(got.Links))
				}
				got.Links = nil
				want := agent.Device{
					UUID: tc.server.Devices[i].(*server.Device).UUID, Index: i, PCIBusID: fmt.Sprintf("00000000:%02X:00.0", 16+i),
					Model: tc.model, ComputeCapability: tc.cc, Minor: &i,
					Memory:           agent.Memory{Total: tc.totalBytes, Reserved: gib / 2, Used: 7 * gib},
					Processes:        []agent.Process{{PID: 100 + 2*i, Memory: 4 * gib, Active: true}, {PID: 101 + 2*i, Memory: 3 * gib}},
					ActivityMeasured: true,
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("GPU %d (-want +got):\n%s", i, diff)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every call that panics, fails or does not exist on GPU 3 must leave the other seven as they are, and GPU 3 in the
// reading.
func TestOneBrokenCallOnOneGPUHidesNothing(t *testing.T) {
	ret := func(r nvml.Return) func(*server.Device) {
		return func(d *server.Device) {
			d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) { return nvml.Memory_v2{}, r }
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, r }
		}
	}
	for _, tc := range []struct {
		name       string
		break1     func(*server.Device)
		wantReason string
	}{
		{"the name panics", func(d *server.Device) { d.GetNameFunc = nil }, ""},
		{"the address panics", func(d *server.Device) { d.GetPciInfoFunc = nil }, ""},
		{"the compute capability panics", func(d *server.Device) { d.GetCudaComputeCapabilityFunc = nil }, ""},
		{"the processes panic", func(d *server.Device) { d.GetComputeRunningProcessesFunc = nil }, ""},
		{"the utilization panics", func(d *server.Device) { d.GetProcessUtilizationFunc = nil }, ""},
		{"the MIG mode panics", func(d *server.Device) { d.GetMigModeFunc = nil }, ""},
		{"the links panic", func(d *server.Device) { d.GetP2PStatusFunc = nil }, ""},
		{"the events panic", func(d *server.Device) { d.RegisterEventsFunc = nil }, ""},
		{"the error counters panic", func(d *server.Device) {
			d.GetTotalEccErrorsFunc, d.GetFieldValuesFunc, d.GetRemappedRowsFunc = nil, nil, nil
		}, ""},
		{"the memory panics", func(d *server.Device) { d.GetMemoryInfo_v2Func = nil }, agent.ReasonUnreadable},
		{"the memory is not supported", ret(nvml.ERROR_NOT_SUPPORTED), berthv1alpha1.DeviceReasonMemoryNotSupported},
		{"the memory has an unknown error", ret(nvml.ERROR_UNKNOWN), agent.ReasonUnreadable},
		{"it is lost", ret(nvml.ERROR_GPU_IS_LOST), agent.ReasonDeviceLost},
		{"it needs a reset", ret(nvml.ERROR_RESET_REQUIRED), agent.ReasonResetRequired},
		{"the driver is too old for v2", func(d *server.Device) {
			d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
				return nvml.Memory_v2{}, nvml.ERROR_FUNCTION_NOT_FOUND
			}
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := dgxh100.New()
			fill(s)
			tc.break1(s.Devices[3].(*server.Device))
			reading, err := New(Options{Library: s}).Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(reading.Devices) != 8 {
				t.Fatalf("got %d devices", len(reading.Devices))
			}
			for i, d := range reading.Devices {
				switch {
				case i == 3 && d.Reason != tc.wantReason:
					t.Errorf("GPU 3 has reason %q (%s), want %q", d.Reason, d.Message, tc.wantReason)
				case i != 3 && (d.Reason != "" || d.Memory.Used != 7*gib || len(d.Processes) != 2 || !d.ActivityMeasured || d.Model == ""):
					t.Errorf("GPU %d is %+v", i, d)
				}
			}
		})
	}
}

func TestGPUWithoutAHandleFromTheStartIsLeftOut(t *testing.T) {
	s := dgxh100.New()
	fill(s)
	handles := s.DeviceGetHandleByIndexFunc
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 3 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return handles(i)
	}
	reading, err := New(Options{Library: s}).Read(t.Context())
	if err != nil || len(reading.Devices) != 7 {
		t.Fatalf("got %d devices, %v; want the 7 others", len(reading.Devices), err)
	}
}

func TestMissingSymbolsAreNotCalled(t *testing.T) {
	s := dgxh100.New()
	fill(s)
	have := map[string]bool{
		"nvmlDeviceGetCount_v2": true, "nvmlDeviceGetHandleByIndex_v2": true, "nvmlDeviceGetUUID": true,
		"nvmlDeviceGetMemoryInfo": true,
	}
	s.LookupSymbolFunc = func(symbol string) error {
		if have[symbol] {
			return nil
		}
		return fmt.Errorf("no %s", symbol)
	}
	for _, d := range s.Devices {
		d := d.(*server.Device)
		fatal := func() { t.Fatal("a function was called that the library does not have") }
		d.GetNameFunc = func() (string, nvml.Return) { fatal(); return "", 0 }
		d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) { fatal(); return nvml.Memory_v2{}, 0 }
		d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 10 * gib, Used: 3 * gib, Free: 7 * gib}, nvml.SUCCESS
		}
		d.GetProcessUtilizationFunc = func(uint64) ([]nvml.ProcessUtilizationSample, nvml.Return) { fatal(); return nil, 0 }
	}
	reading, err := New(Options{Library: s}).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range reading.Devices {
		if d.Reason != "" || d.Memory.Used != 3*gib || d.ActivityMeasured {
			t.Errorf("got %+v", d)
		}
	}
}

func TestActiveProcessesAfterTheClockOfSamplesWasSetBack(t *testing.T) {
	s := dgxh100.New()
	fill(s)
	// The buffer of the driver: what is after a time is returned.
	var buffer []nvml.ProcessUtilizationSample
	d := s.Devices[0].(*server.Device)
	d.GetProcessUtilizationFunc = func(since uint64) ([]nvml.ProcessUtilizationSample, nvml.Return) {
		var out []nvml.ProcessUtilizationSample
		for _, b := range buffer {
			if b.TimeStamp > since {
				out = append(out, b)
			}
		}
		if out == nil {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return out, nvml.SUCCESS
	}
	r := New(Options{Library: s})
	for _, tc := range []struct {
		name string
		// a and b are the times of the samples of processes 100 and 101; zero = none.
		a, b         uint64
		wantA, wantB bool
	}{
		{"both compute", 1000, 1000, true, true},
		{"one does not any more", 1000, 2000, false, true},
		{"the sample that was newest is gone, the other is as old as it was", 1000, 0, false, false},
		{"one computes, by a clock that was set back", 0, 500, false, true},
		{"it computes on", 0, 600, false, true},
		{"it does not any more", 0, 600, false, false},
	} {
		buffer = nil
		for pid, stamp := range map[uint32]uint64{100: tc.a, 101: tc.b} {
			if stamp > 0 {
				buffer = append(buffer, nvml.ProcessUtilizationSample{Pid: pid, TimeStamp: stamp, SmUtil: 50})
			}
		}
		reading, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p := reading.Devices[0].Processes
		if p[0].Active != tc.wantA || p[1].Active != tc.wantB || !reading.Devices[0].ActivityMeasured {
			t.Errorf("%s: active are %t and %t, want %t and %t", tc.name, p[0].Active, p[1].Active, tc.wantA, tc.wantB)
		}
	}
}

func TestUsedLeavesOutWhatIsReserved(t *testing.T) {
	for _, tc := range []struct {
		name string
		info nvml.Memory_v2
		want uint64
	}{
		{"used is without reserved", nvml.Memory_v2{Total: 80, Reserved: 2, Used: 10, Free: 68}, 10},
		{"used is with reserved", nvml.Memory_v2{Total: 80, Reserved: 2, Used: 12, Free: 68}, 10},
		{"an idle GPU, with reserved", nvml.Memory_v2{Total: 80, Reserved: 2, Used: 2, Free: 78}, 0},
		{"an idle GPU, without", nvml.Memory_v2{Total: 80, Reserved: 2, Used: 0, Free: 78}, 0},
		{"nothing is reserved", nvml.Memory_v2{Total: 80, Used: 10, Free: 70}, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := usedOf(&tc.info); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestMappedLibrary(t *testing.T) {
	const maps = `559e16c00000-559e16c01000 r--p 00000000 fe:00 123 /usr/local/bin/agent
7f569ef03000-7f569ef04000 r--p 00000000 fe:00 9978030                    /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04
7f569ef04000-7f569ef05000 r-xp 00001000 fe:00 9978030                    /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04
7ffd1f9c1000-7ffd1f9e2000 rw-p 00000000 00:00 0                          [stack]
`
	if got, want := mappedLibrary(maps), "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.159.04"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := mappedLibrary("7ffd1f9c1000-7ffd1f9e2000 rw-p 00000000 00:00 0 [stack]\n"); got != "" {
		t.Errorf("got %q, want none", got)
	}
}
