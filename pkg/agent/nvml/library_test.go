// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/test/nvmlmock"
)

// machine is a reader of the mock library, over go-nvml and dlopen as in production, and a clock.
type machine struct {
	*Reader
	t     *testing.T
	state nvmlmock.State
	path  string
	now   time.Time
}

// newMachine returns a machine of two GPUs. A process loads one library in its life, so all tests share it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, state: nvmlmock.DGX(2), path: filepath.Join(t.TempDir(), "state"), now: time.Now()}
	t.Setenv(nvmlmock.EnvState, m.path)
	m.Reader = New(Options{LibraryPath: library(t), Now: func() time.Time { return m.now }})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

var builtLibrary string

func library(t *testing.T) string {
	t.Helper()
	if builtLibrary != "" {
		return builtLibrary
	}
	built, err := nvmlmock.Build(t.TempDir())
	if errors.Is(err, nvmlmock.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	builtLibrary = built
	return built
}

// read changes the hardware to what m.state says, lets time pass, and reads it.
func (m *machine) read() *agent.Reading {
	m.t.Helper()
	if err := m.state.WriteFile(m.path); err != nil {
		m.t.Fatal(err)
	}
	m.now = m.now.Add(slowInterval)
	// The library is that of the first test, whose folder is gone; here it is not about that.
	m.library = nil
	reading, err := m.Read(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return reading
}

func TestActivityOfProcesses(t *testing.T) {
	m := newMachine(t)
	g := &m.state.GPUs[0]
	g.Processes = []nvmlmock.Process{
		{PID: 1, Memory: gib, Utilization: 5},
		{PID: 2, Memory: gib},
		{PID: 3, Memory: gib, Type: nvmlmock.MPS},
	}
	check := func(what string, measured, active bool) {
		t.Helper()
		d := m.read().Devices[0]
		if d.ActivityMeasured != measured || d.Processes[0].Active != active || d.Processes[1].Active {
			t.Errorf("%s: measured %t, processes %+v", what, d.ActivityMeasured, d.Processes)
		}
		if !d.Processes[2].ActivityUnknown {
			t.Errorf("%s: a client of MPS looks idle: %+v", what, d.Processes[2])
		}
	}
	check("it computes", true, true)
	check("it still does", true, true)
	// Samples are stamped by the machine's clock: if that is set back, new ones are older than old ones.
	m.activityOf(g.UUID).newest += uint64(time.Hour.Microseconds())
	m.now = time.Now().Add(-slowInterval)
	check("the clock was set back", true, true)
	g.Processes[0].Utilization = 0
	check("it stopped", true, false)
	g.UtilizationReturn = nvmlmock.Unknown
	for range activityFailuresTolerated {
		check("a call that fails a few times", true, false)
	}
	check("a call that keeps failing", false, false)
	g.UtilizationReturn = nvmlmock.NotSupported
	check("not supported", false, false)
}

func (m *machine) activityOf(uuid string) *activity { return &m.devices[uuid].activity }

func TestMemoryOfAProcessThatTheDriverDoesNotTell(t *testing.T) {
	m := newMachine(t)
	m.state.GPUs[0].Processes = []nvmlmock.Process{{PID: 1, MemoryUnknown: true}}
	if p := m.read().Devices[0].Processes; len(p) != 1 || p[0].Memory != 0 {
		t.Errorf("got %+v, want the process, with no memory", p)
	}
}

func TestProcessesThatCannotBeListedStandForAWhile(t *testing.T) {
	m := newMachine(t)
	g := &m.state.GPUs[0]
	g.Processes = []nvmlmock.Process{{PID: 1, Memory: gib}}
	m.read()
	g.ProcessesReturn = nvmlmock.Unknown
	for i := range processFailuresTolerated {
		if n := len(m.read().Devices[0].Processes); n != 1 {
			t.Fatalf("%d processes after %d failures", n, i+1)
		}
	}
	if d := m.read().Devices[0]; len(d.Processes) != 0 || !d.ProcessesUnknown {
		t.Errorf("%d processes of a list that was not read for long; it says so: %t", len(d.Processes), d.ProcessesUnknown)
	}
	g.ProcessesReturn = 0
	if d := m.read().Devices[0]; len(d.Processes) != 1 || d.ProcessesUnknown {
		t.Errorf("once it can be read again it has %d processes; it says that they are not known: %t", len(d.Processes), d.ProcessesUnknown)
	}
	g.MemoryReturn = nvmlmock.GPUIsLost
	if d := m.read().Devices[0]; len(d.Processes) != 0 || !d.ProcessesUnknown {
		t.Errorf("%d processes of a GPU that is lost; it says so: %t", len(d.Processes), d.ProcessesUnknown)
	}
}

func TestHealth(t *testing.T) {
	action := func(n int) *int { return &n }
	type step struct {
		change   func(*nvmlmock.GPU)
		events   []int
		reason   string
		released bool
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"the driver asks for a reset, and gets it", []step{
			{func(g *nvmlmock.GPU) { g.RecoveryAction = action(0) }, nil, "", false},
			{func(g *nvmlmock.GPU) { g.RecoveryAction = action(1) }, nil, agent.ReasonResetRequired, true},
			{func(g *nvmlmock.GPU) { g.RecoveryAction = action(0) }, nil, "", false},
		}},
		{"an Xid of an application is none of the GPU", []step{
			{func(*nvmlmock.GPU) {}, []int{13, 31, 43, 45, 94}, "", false},
		}},
		{"a fatal Xid lasts", []step{
			{func(*nvmlmock.GPU) {}, []int{79}, "Xid79", true},
			{func(*nvmlmock.GPU) {}, nil, "Xid79", true},
			{func(*nvmlmock.GPU) {}, nil, "Xid79", true},
		}},
		{"a fatal Xid is over when the GPU was lost and is back", []step{
			{func(*nvmlmock.GPU) {}, []int{119}, "Xid119", true},
			{func(g *nvmlmock.GPU) { g.Lost = true }, nil, agent.ReasonDeviceLost, true},
			{func(g *nvmlmock.GPU) { g.Lost = false }, nil, "", false},
		}},
		{"a fatal Xid is over when the driver says that nothing is to be done", []step{
			{func(g *nvmlmock.GPU) { g.RecoveryAction = action(0) }, []int{74}, "Xid74", true},
			{func(*nvmlmock.GPU) {}, nil, "", false},
		}},
		{"errors of the memory last until the reset clears their counter", []step{
			{func(g *nvmlmock.GPU) { g.UncorrectableErrors = 1 }, []int{48}, agent.ReasonUncorrectableECC, true},
			{func(*nvmlmock.GPU) {}, nil, agent.ReasonUncorrectableECC, true},
			{func(g *nvmlmock.GPU) { g.UncorrectableErrors = 0 }, nil, "", false},
		}},
		{"rows that cannot be remapped", []step{
			{func(g *nvmlmock.GPU) { g.RemapFailed = true }, nil, agent.ReasonUncorrectableECC, true},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t)
			m.read()
			for i, s := range tc.steps {
				s.change(&m.state.GPUs[0])
				for _, xid := range s.events {
					lastEvent++
					m.state.Events = append(m.state.Events, nvmlmock.Event{Number: lastEvent, UUID: m.state.GPUs[0].UUID, Xid: xid})
				}
				reading := m.read()
				if d := find(reading, m.state.GPUs[0].UUID); d.Reason != s.reason || reading.Released != s.released {
					t.Errorf("step %d: reason %q (%s), released %t, want %q, %t", i, d.Reason, d.Message, reading.Released, s.reason, s.released)
				}
				if d := find(reading, m.state.GPUs[1].UUID); d.Reason != "" {
					t.Errorf("step %d: the other GPU has reason %q", i, d.Reason)
				}
			}
		})
	}
}

func find(r *agent.Reading, uuid string) agent.Device {
	for _, d := range r.Devices {
		if d.UUID == uuid {
			return d
		}
	}
	return agent.Device{}
}

// lastEvent is the number of the last event, which grow over the life of the library.
var lastEvent int

func TestGPUThatIsReplacedIsNotLost(t *testing.T) {
	m := newMachine(t)
	m.read()
	m.state.GPUs[0].UUID = "GPU-new"
	m.state.Links = nil
	reading := m.read()
	if len(reading.Devices) != 2 || reading.Devices[0].UUID != "GPU-new" || reading.Devices[0].Reason != "" {
		t.Errorf("got %+v", reading.Devices)
	}
}

func TestInstancesOfALostGPUAreLost(t *testing.T) {
	m := newMachine(t)
	g := &m.state.GPUs[0]
	g.MIG, g.MIGPending = true, true
	g.Instances = []nvmlmock.Instance{{UUID: "MIG-a", Name: "MIG 1g.10gb", Memory: nvmlmock.Memory{Total: 10 * gib}}}
	if got := m.read(); len(got.Devices) != 3 || got.Released {
		t.Fatalf("got %d devices, released %t", len(got.Devices), got.Released)
	}
	g.Lost = true
	for _, d := range m.read().Devices {
		if lost := d.UUID == g.UUID || d.Parent == g.UUID; lost != (d.Reason == agent.ReasonDeviceLost) {
			t.Errorf("%s has reason %q", d.UUID, d.Reason)
		} else if lost != d.ProcessesUnknown {
			t.Errorf("%s: its processes are not known: %t", d.UUID, d.ProcessesUnknown)
		}
	}
	g.Lost, g.Instances = false, nil
	if got := m.read(); len(got.Devices) != 2 {
		t.Errorf("an instance that was removed is still there: %+v", got.Devices)
	}
}

func TestLibraryIsReleasedNowAndThenForAGPUThatNobodyRepairs(t *testing.T) {
	m := newMachine(t)
	m.now = m.now.Truncate(time.Minute)
	m.read()
	m.state.GPUs[0].Lost = true
	for range int(releaseAlways/slowInterval) - 1 {
		if !m.read().Released {
			t.Fatal("not released")
		}
	}
	released := 0
	for range 10 * time.Minute / slowInterval {
		if m.read().Released {
			released++
		}
	}
	// 10 s of each minute, of readings that are 2 s apart.
	if released < 40 || released > 60 {
		t.Errorf("released %d times in 10 minutes, want 50", released)
	}
}

func TestLinks(t *testing.T) {
	m := newMachine(t)
	a, b := m.state.GPUs[0].UUID, m.state.GPUs[1].UUID
	links := func() string {
		m.now = m.now.Add(linksInterval)
		d := m.read().Devices[0]
		if len(d.Links) == 0 {
			return "none"
		}
		return string(d.Links[0].Type) + " " + d.Links[0].Peer
	}
	if got := links(); got != "NVLink "+b {
		t.Errorf("got %s", got)
	}
	m.state.Links = []nvmlmock.Link{{A: b, B: a, PCIe: true}}
	if got := links(); got != "PCIe "+b {
		t.Errorf("got %s", got)
	}
	m.state.Links = nil
	if got := links(); got != "none" {
		t.Errorf("got %s", got)
	}
}

func TestDriverThatIsGoneIsAnErrorAndItsErrorsAreForgotten(t *testing.T) {
	m := newMachine(t)
	m.read()
	lastEvent++
	m.state.Events = []nvmlmock.Event{{Number: lastEvent, UUID: m.state.GPUs[0].UUID, Xid: 79}}
	if got := m.read().Devices[0].Reason; got != "Xid79" {
		t.Fatalf("reason %q", got)
	}
	m.state.Return = nvmlmock.DriverNotLoaded
	if err := m.state.WriteFile(m.path); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Read(t.Context()); !errors.Is(err, ErrUnavailable) || errors.Is(err, agent.ErrStaleLibrary) {
		t.Fatalf("got %v", err)
	}
	m.state.Return = 0
	if got := m.read().Devices[0].Reason; got != "" {
		t.Errorf("reason %q after the driver was loaded again", got)
	}
}

func TestVersionMismatchThatLastsNeedsANewProcess(t *testing.T) {
	m := newMachine(t)
	m.state.Return = nvmlmock.VersionMismatch
	if err := m.state.WriteFile(m.path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := m.Read(t.Context()); !errors.Is(err, ErrUnavailable) || errors.Is(err, agent.ErrStaleLibrary) {
			t.Fatalf("got %v at once", err)
		}
	}
	m.now = m.now.Add(mismatchTolerated + time.Second)
	if _, err := m.Read(t.Context()); !errors.Is(err, agent.ErrStaleLibrary) || errors.Is(err, agent.ErrLibraryReplaced) {
		t.Errorf("got %v after a minute", err)
	}
}

func TestNoLibraryIsAClearError(t *testing.T) {
	r := New(Options{LibraryPath: filepath.Join(t.TempDir(), "libnvidia-ml.so.1")})
	_, err := r.Read(t.Context())
	const want = "no NVIDIA driver: libnvidia-ml.so.1 cannot be loaded; install the driver, run the container with " +
		"runtimeClassName nvidia, or name the library with --nvml-library"
	if err == nil || err.Error() != want || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestADriverThatCanLimitMemory: by its function, which older drivers do not have.
func TestADriverThatCanLimitMemory(t *testing.T) {
	if m := newMachine(t); m.read().LimitsMemory {
		t.Error("a driver without the function is said to limit memory")
	}
	found := &Reader{symbols: map[string]bool{}, lib: &mock.Interface{ExtensionsFunc: func() nvml.ExtendedInterface {
		return &mock.ExtendedInterface{LookupSymbolFunc: func(symbol string) error {
			if symbol == "nvmlDeviceSetMemoryLimits_v1" {
				return nil
			}
			return errors.New("not there")
		}}
	}}}
	if !found.limitsMemory() {
		t.Error("a driver with the function is not said to limit memory")
	}
}
