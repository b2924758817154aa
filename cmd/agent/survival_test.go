// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/test/nvmlmock"
)

const gib = 1 << 30

// uid returns the UID of the i-th pod.
func uid(i int) string { return fmt.Sprintf("%08x-1111-4222-8333-444444444444", i) }

// use puts a process of a pod on a GPU; a foreign process if the pod's number is negative.
func (m *machine) use(gpu, pid, pod int, memory uint64) {
	m.t.Helper()
	podUID := ""
	if pod >= 0 {
		podUID = uid(pod)
	}
	m.process(pid, podUID)
	g := &m.state.GPUs[gpu]
	g.Processes = append(g.Processes, nvmlmock.Process{PID: pid, Memory: memory, Utilization: 50})
	g.Memory.Used += memory
}

// right says whether a device of the report is what the hardware is: healthy, with the memory that its processes hold.
func right(d *berthv1alpha1.GPUDevice, g *nvmlmock.GPU) bool {
	var held int64
	for _, p := range d.Processes {
		held += p.Memory.Value()
	}
	return d.UUID == g.UUID && d.Health == berthv1alpha1.DeviceHealthy && d.Model == g.Name &&
		uint64(d.Memory.Total.Value()) == g.Memory.Total && uint64(d.Memory.Reserved.Value()) == g.Memory.Reserved &&
		uint64(d.Memory.Used.Value()) == g.Memory.Used && uint64(held) == g.Memory.Used
}

func find(s *berthv1alpha1.GPUNodeStatus, uuid string) *berthv1alpha1.GPUDevice {
	i := slices.IndexFunc(s.Devices, func(d berthv1alpha1.GPUDevice) bool { return d.UUID == uuid })
	if i < 0 {
		return nil
	}
	return &s.Devices[i]
}

// allRight says whether the report is what the hardware is.
func (m *machine) allRight() bool {
	gn := m.server.Node()
	if gn == nil || len(gn.Status.Devices) != len(m.state.GPUs) {
		return false
	}
	for i := range m.state.GPUs {
		if d := find(&gn.Status, m.state.GPUs[i].UUID); d == nil || !right(d, &m.state.GPUs[i]) {
			return false
		}
	}
	return true
}

// device returns a GPU in the report; one that has nothing if it is not in it.
func (m *machine) device(gpu int) berthv1alpha1.GPUDevice {
	if gn := m.server.Node(); gn != nil {
		if d := find(&gn.Status, m.state.GPUs[gpu].UUID); d != nil {
			return *d
		}
	}
	return berthv1alpha1.GPUDevice{}
}

// othersNeverWrong fails if any report since a moment had something wrong with a GPU other than broken.
func (m *machine) othersNeverWrong(since time.Time, broken int) {
	m.t.Helper()
	for _, r := range m.server.Reports() {
		if r.At.Before(since) {
			continue
		}
		for i := range m.state.GPUs {
			if i == broken {
				continue
			}
			if d := find(&r.Status, m.state.GPUs[i].UUID); d == nil || !right(d, &m.state.GPUs[i]) {
				m.t.Errorf("GPU %d was reported as %+v", i, d)
			}
		}
	}
}

// TestOneProcessSurvives takes one agent process through everything that hardware, driver and API server do to it.
func TestOneProcessSurvives(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	m := newMachine(t)
	for i := range m.state.GPUs {
		m.use(i, 100+i, i, 20*gib)
	}
	m.apply()
	m.start()
	m.until("the first report", m.allRight)
	const broken = 3
	gpu := &m.state.GPUs[broken]

	t.Run("a GPU is lost and comes back", func(t *testing.T) {
		m.t = t
		since := time.Now()
		gpu.Lost = true
		m.apply()
		m.until("the lost GPU is unhealthy", func() bool {
			d := m.device(broken)
			return d.Health == berthv1alpha1.DeviceUnhealthy && d.Reason == agent.ReasonDeviceLost && d.Model == gpu.Name
		})
		gpu.Lost = false
		m.apply()
		m.until("it is back", m.allRight)
		m.othersNeverWrong(since, broken)
	})
	t.Run("a GPU has no handle, then falls out of the list, and comes back", func(t *testing.T) {
		m.t = t
		since := time.Now()
		gpu.HandleReturn = nvmlmock.GPUIsLost
		m.apply()
		m.until("the GPU without a handle is unhealthy", func() bool { return m.device(broken).Reason == agent.ReasonDeviceLost })
		all := m.state
		m.state.GPUs = slices.Delete(slices.Clone(all.GPUs), broken, broken+1)
		m.apply()
		time.Sleep(time.Second) // for reports of the new list, which must be right about the others too
		m.state = all
		if got := m.device(broken).Reason; got != agent.ReasonDeviceLost {
			t.Errorf("a GPU that is not listed is reported as %q", got)
		}
		m.state.GPUs[broken].HandleReturn = 0
		m.apply()
		m.until("it is back", m.allRight)
		m.othersNeverWrong(since, broken)
	})
	gpu = &m.state.GPUs[broken]
	for _, failure := range []struct {
		name        string
		begin, end  func() error
		unavailable bool
	}{
		{
			name:  "every call returns an error",
			begin: func() error { m.state.Return = nvmlmock.Unknown; return m.state.WriteFile(m.path("state")) },
			end:   func() error { m.state.Return = 0; return m.state.WriteFile(m.path("state")) },
		},
		{
			name:  "the driver is unloaded",
			begin: func() error { return os.Remove(m.path("state")) },
			end:   func() error { return m.state.WriteFile(m.path("state")) },
		},
		{
			name:  "the library is removed",
			begin: func() error { return os.Rename(m.library, m.library+".old") },
			end:   func() error { return os.Rename(m.library+".old", m.library) },
		},
		{
			name: "the driver is upgraded",
			begin: func() error {
				m.state.Driver = "590.44.01"
				m.state.Return = nvmlmock.VersionMismatch
				return errors.Join(os.Remove(m.library), m.state.WriteFile(m.path("state")))
			},
			end: func() error {
				m.state.Return = 0
				_, err := nvmlmock.Build(m.dir)
				return errors.Join(err, m.state.WriteFile(m.path("state")))
			},
		},
	} {
		t.Run(failure.name, func(t *testing.T) {
			m.t = t
			if err := failure.begin(); err != nil {
				t.Fatal(err)
			}
			m.until("all GPUs are unhealthy", func() bool {
				gn := m.server.Node()
				return len(gn.Status.Devices) == 8 && !slices.ContainsFunc(gn.Status.Devices, func(d berthv1alpha1.GPUDevice) bool {
					return d.Reason != agent.ReasonDriverUnavailable || d.Health != berthv1alpha1.DeviceUnhealthy
				})
			})
			if err := failure.end(); err != nil {
				t.Fatal(err)
			}
			m.until("the driver is back", m.allRight)
		})
	}
	t.Run("the driver does not tell the memory of one GPU", func(t *testing.T) {
		m.t = t
		since := time.Now()
		gpu.MemoryReturn = nvmlmock.NotSupported
		m.apply()
		m.until("it gets no pods, with the reason", func() bool {
			d := m.device(broken)
			return d.Health == berthv1alpha1.DeviceUnhealthy && d.Reason == berthv1alpha1.DeviceReasonMemoryNotSupported
		})
		gpu.MemoryReturn = 0
		m.apply()
		m.until("it is told again", m.allRight)
		m.othersNeverWrong(since, broken)
	})
	t.Run("500 processes come and go", func(t *testing.T) {
		m.t = t
		before := slices.Clone(m.state.GPUs)
		for i := range m.state.GPUs {
			m.state.GPUs[i].Processes = slices.Clone(before[i].Processes)
		}
		for i := range 500 {
			m.use(i%8, 1000+i, 100+i, 100<<20)
		}
		m.apply()
		m.until("they are there", m.allRight)
		if n := len(m.device(0).Processes); n != 1+63 {
			t.Errorf("GPU 0 has %d pods, want 64", n)
		}
		m.state.GPUs = before
		m.apply()
		m.until("they are gone", m.allRight)
	})
	gpu = &m.state.GPUs[broken]
	t.Run("MIG is turned on and off", func(t *testing.T) {
		m.t = t
		since := time.Now()
		processes, used := gpu.Processes, gpu.Memory.Used
		gpu.MIGPending = true
		m.apply()
		m.until("it waits for its clients to let go", func() bool { return m.device(broken).Reason == agent.ReasonMIGPending })
		gpu.MIG, gpu.Processes, gpu.Memory.Used = true, nil, 0
		gpu.Instances = []nvmlmock.Instance{
			{UUID: "MIG-a", Name: "NVIDIA H100 80GB HBM3 MIG 3g.40gb", Memory: nvmlmock.Memory{Total: 40 * gib, Used: 10 * gib},
				Processes: processes},
			{UUID: "MIG-b", Name: "NVIDIA H100 80GB HBM3 MIG 4g.40gb", Memory: nvmlmock.Memory{Total: 40 * gib}},
		}
		m.apply()
		m.until("its instances are devices", func() bool {
			gn := m.server.Node()
			a, b := find(&gn.Status, "MIG-a"), find(&gn.Status, "MIG-b")
			return a != nil && b != nil && a.Parent == gpu.UUID && a.Health == berthv1alpha1.DeviceHealthy &&
				a.Memory.Used.Value() == 10*gib && len(a.Processes) == 1 && string(a.Processes[0].PodUID) == uid(broken) &&
				!a.Processes[0].Active && a.Processes[0].LastActiveTime == nil &&
				m.device(broken).Reason == berthv1alpha1.DeviceReasonMIGParent
		})
		gpu.MIG, gpu.MIGPending, gpu.Instances = false, false, nil
		gpu.Processes, gpu.Memory.Used = processes, used
		m.apply()
		m.until("it is whole again", m.allRight)
		m.othersNeverWrong(since, broken)
	})
	t.Run("the clock jumps", func(t *testing.T) {
		m.t = t
		for _, offset := range []time.Duration{time.Hour, -time.Hour, 0} {
			m.state.ClockOffset = offset
			m.apply()
			time.Sleep(3 * time.Second) // longer than a pod stays active without being seen computing
			if !m.allRight() || !m.device(0).Processes[0].Active {
				t.Errorf("with a clock that is wrong by %s: %+v", offset, m.device(0))
			}
		}
	})
	t.Run("the API server is down", func(t *testing.T) {
		m.t = t
		m.server.Stop()
		m.use(0, 900, -1, 5*gib)
		m.apply()
		time.Sleep(outage(t))
		m.use(1, 901, -1, 6*gib)
		m.apply()
		m.server.Start()
		m.until("the newest state is reported", m.allRight)
	})
	t.Run("somebody deletes the report", func(t *testing.T) {
		m.t = t
		m.server.Delete()
		m.use(2, 902, -1, 5*gib)
		m.apply()
		m.until("it is made again", m.allRight)
	})
	m.t = t
	for _, r := range m.server.Reports() {
		for _, d := range r.Status.Devices {
			for _, p := range d.Processes {
				if p.LastActiveTime != nil {
					t.Errorf("a pod that computes all the time was reported idle since %s on GPU %d", p.LastActiveTime, d.Index)
				}
			}
		}
	}
	if _, renewals := m.server.Lease(); renewals == 0 {
		t.Error("the Lease was never renewed")
	}
	if m.agent.ProcessState != nil {
		t.Error("the agent ended")
	}
}

// outage is how long the API server is gone: the minute of the requirement if asked for, else enough for all retries to
// have reached their longest pause.
func outage(t testing.TB) time.Duration {
	if v := os.Getenv("BERTH_TEST_OUTAGE"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return 8 * time.Second
}
