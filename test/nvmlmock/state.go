// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nvmlmock makes GPUs for tests: a libnvidia-ml.so.1 of our own (lib/nvmlmock.c) that the unchanged agent loads,
// and the file that tells the library what its GPUs are. A test writes the file again while the agent runs.
//
//	library, err := nvmlmock.Build(dir)
//	state := nvmlmock.State{Driver: "580.159.04", GPUs: []nvmlmock.GPU{nvmlmock.H100(0)}}
//	err = state.WriteFile(path)
//	// bin/agent --nvml-library=<library>, with BERTH_NVML_STATE=<path> in its environment
package nvmlmock

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// EnvState names the file that the library reads. Each process has its own, so one machine can be many nodes.
const EnvState = "BERTH_NVML_STATE"

// Return codes of NVML, for the fields that make calls fail.
const (
	NotSupported    = 3
	DriverNotLoaded = 9
	GPUIsLost       = 15
	VersionMismatch = 18
	Unknown         = 999
)

// State is the hardware of one machine, and how it fails.
type State struct {
	// Driver is the driver's version.
	Driver string
	// Return is what every call returns, as when the driver is being replaced; zero = calls succeed.
	Return int
	// ClockOffset is by how much the clock that stamps utilization samples is wrong, as after the machine's clock was
	// set; whole seconds.
	ClockOffset time.Duration
	GPUs        []GPU
	// Links are the fast connections between GPUs.
	Links []Link
	// Events are errors that the driver tells of, each once for each process.
	Events []Event
}

// GPU is one GPU.
type GPU struct {
	UUID, BusID, Name string
	// ComputeCapability is CUDA's, "9.0".
	ComputeCapability string
	Memory            Memory
	Processes         []Process

	// MIG says that the GPU is cut into Instances, MIGPending that it will be after the next reset.
	MIG, MIGPending bool
	Instances       []Instance

	// Lost says that the GPU fell off the bus: all its calls say so.
	Lost bool
	// The following make single calls return a code of NVML: for its handle, its memory, its processes and their
	// utilization.
	HandleReturn, MemoryReturn, ProcessesReturn, UtilizationReturn int

	// UncorrectableErrors is the number of ECC errors since the last reset, RemapFailed that rows could not be remapped.
	UncorrectableErrors int
	RemapFailed         bool
	// RecoveryAction is what the driver asks to be done; nil for drivers that do not tell (before R560).
	RecoveryAction *int
}

// Instance is one MIG instance.
type Instance struct {
	UUID, Name   string
	Memory       Memory
	Processes    []Process
	MemoryReturn int
}

// Memory is in bytes.
type Memory struct {
	Total, Reserved, Used uint64
}

// Process holds memory on a device.
type Process struct {
	PID int
	// Memory is in bytes, and part of the device's Memory.Used.
	Memory uint64
	// MemoryUnknown says that the driver does not tell it.
	MemoryUnknown bool
	Type          ProcessType
	// Utilization of the device's multiprocessors, in percent; zero = the process does not compute.
	Utilization int
}

// ProcessType is which of the driver's lists has a process.
type ProcessType int

const (
	Compute ProcessType = iota
	Graphics
	MPS
)

// Link is a connection of two GPUs, by their UUIDs.
type Link struct {
	A, B string
	// PCIe says that it is a PCIe switch, not NVLink.
	PCIe bool
}

// Event is an error that the driver tells of.
type Event struct {
	// Number orders events; one that is not larger than that of an event already delivered is not delivered.
	Number int
	UUID   string
	// Xid is the error.
	Xid int
}

// H100 returns an idle GPU of DGX H100, the index-th of its node.
func H100(index int) GPU {
	return GPU{
		UUID:              fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", index),
		BusID:             fmt.Sprintf("00000000:%02X:00.0", 0x10+index),
		Name:              "NVIDIA H100 80GB HBM3",
		ComputeCapability: "9.0",
		Memory:            Memory{Total: 81559 << 20, Reserved: 551 << 20},
	}
}

// DGX returns a node of n GPUs that are all connected by NVLink.
func DGX(n int) State {
	s := State{Driver: "580.159.04"}
	for i := range n {
		s.GPUs = append(s.GPUs, H100(i))
		for j := range i {
			s.Links = append(s.Links, Link{A: s.GPUs[j].UUID, B: s.GPUs[i].UUID})
		}
	}
	return s
}

// WriteFile replaces the file at once, so that the library never reads half of a state.
func (s *State) WriteFile(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("nvmlmock: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(s.text())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("nvmlmock: %w", err)
	}
	return nil
}

// text returns the state in the form that lib/nvmlmock.c describes.
func (s *State) text() string {
	const eventTypeXid = 8
	var b strings.Builder
	fmt.Fprintf(&b, "driver %s\nreturn %d\nclock %d\n", word(s.Driver), s.Return, int64(s.ClockOffset.Seconds()))
	for i := range s.GPUs {
		g := &s.GPUs[i]
		action := -1
		if g.RecoveryAction != nil {
			action = *g.RecoveryAction
		}
		fmt.Fprintf(&b, "gpu %s %s %s %s mig=%d pending=%d lost=%d handle=%d memory=%d processes=%d utilization=%d "+
			"ecc=%d remap=%d action=%d name=%s\n",
			word(g.UUID), word(g.BusID), word(g.ComputeCapability), g.Memory.text(), bit(g.MIG), bit(g.MIGPending),
			bit(g.Lost), g.HandleReturn, g.MemoryReturn, g.ProcessesReturn, g.UtilizationReturn,
			g.UncorrectableErrors, bit(g.RemapFailed), action, g.Name)
		writeProcesses(&b, g.UUID, g.Processes)
		for j := range g.Instances {
			m := &g.Instances[j]
			fmt.Fprintf(&b, "mig %s %s %s memory=%d name=%s\n", word(m.UUID), word(g.UUID), m.Memory.text(), m.MemoryReturn, m.Name)
			writeProcesses(&b, m.UUID, m.Processes)
		}
	}
	for _, l := range s.Links {
		fmt.Fprintf(&b, "link %s %s %d\n", l.A, l.B, bit(l.PCIe))
	}
	for _, e := range s.Events {
		fmt.Fprintf(&b, "event %d %s %d %d\n", e.Number, e.UUID, eventTypeXid, e.Xid)
	}
	return b.String()
}

func (m *Memory) text() string {
	return fmt.Sprintf("total=%d reserved=%d used=%d", m.Total, m.Reserved, m.Used)
}

func writeProcesses(b *strings.Builder, device string, processes []Process) {
	for _, p := range processes {
		memory := fmt.Sprint(p.Memory)
		if p.MemoryUnknown {
			memory = "-1"
		}
		fmt.Fprintf(b, "proc %s %d memory=%s type=%d util=%d\n", word(device), p.PID, memory, p.Type, p.Utilization)
	}
}

// word keeps the words of a line in their places.
func word(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Join(strings.Fields(s), "_")
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
