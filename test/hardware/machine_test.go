// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/test/nvmlmock"
)

// faults are what is wrong with a machine.
type faults struct {
	// smiMore is how many MiB nvidia-smi says beyond what is in use.
	smiMore uint64
	// unlisted says that the driver lists no processes, halved that it says half of their memory.
	unlisted, halved bool
	// neverBack says that memory stays in use after its process.
	neverBack bool
	// allActive says that the driver takes every process for one that computes; none, that it takes none.
	allActive, noneActive bool
}

// lingering is for how many looks the memory of a process is in use after it.
const lingering = 3

// machine has GPUs whose processes are those that use the fake libcuda.
type machine struct {
	t          *testing.T
	dir        string
	nvml, cuda string
	faults     faults
	state      nvmlmock.State
	dead       map[int]int
	stop       chan struct{}
	simulation sync.WaitGroup
}

func newMachine(t *testing.T, gpus int, f faults) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), faults: f, state: nvmlmock.DGX(gpus), dead: map[int]int{}, stop: make(chan struct{})}
	var err error
	m.nvml, err = nvmlmock.Build(m.dir)
	if errors.Is(err, nvmlmock.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.cuda = m.path("libcuda.so.1")
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", m.cuda, "testdata/fakecuda.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script := "#!/bin/sh\ncase $1 in --query-gpu=*) cat " + m.path("gpus.csv") + ";; --query-compute-apps=*) cat " + m.path("apps.csv") + ";; *) exit 2;; esac\n"
	if err := os.WriteFile(m.path("nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.path("processes"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.simulate()
	m.simulation.Go(func() {
		for {
			select {
			case <-m.stop:
				return
			case <-time.After(20 * time.Millisecond):
				m.simulate()
			}
		}
	})
	t.Cleanup(func() {
		close(m.stop)
		m.simulation.Wait()
	})
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// simulate makes the driver and nvidia-smi say what the processes are now.
func (m *machine) simulate() {
	s := m.state
	s.GPUs = append([]nvmlmock.GPU{}, m.state.GPUs...)
	var apps strings.Builder
	files, err := filepath.Glob(m.path("processes/*[0-9]"))
	if err != nil {
		m.t.Error(err)
	}
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(file))
		text, readErr := os.ReadFile(file)
		if err = errors.Join(err, readErr); err != nil {
			m.t.Error(err)
			continue
		}
		var uuid string
		var held uint64
		if _, err := fmt.Sscan(string(text), &uuid, &held); err != nil {
			m.t.Error(err)
			continue
		}
		alive := runs(pid)
		if !alive {
			m.dead[pid]++
		}
		for i := range s.GPUs {
			g := &s.GPUs[i]
			if g.UUID != uuid {
				continue
			}
			if alive || m.faults.neverBack || m.dead[pid] <= lingering {
				g.Memory.Used += held
			}
			if !alive || m.faults.unlisted {
				continue
			}
			p := nvmlmock.Process{PID: pid, Memory: held}
			if m.faults.halved {
				p.Memory /= 2
			}
			info, err := os.Stat(file + ".busy")
			if busy := err == nil && time.Since(info.ModTime()) < 300*time.Millisecond; busy && !m.faults.noneActive || m.faults.allActive {
				p.Utilization = 90
			}
			g.Processes = append(g.Processes[:len(g.Processes):len(g.Processes)], p)
			fmt.Fprintf(&apps, "%s, %d, %d\n", uuid, pid, p.Memory>>20)
		}
	}
	var gpus strings.Builder
	for i := range s.GPUs {
		g := &s.GPUs[i]
		used := g.Memory.Used>>20 + m.faults.smiMore
		total, reserved := g.Memory.Total>>20, g.Memory.Reserved>>20
		fmt.Fprintf(&gpus, "%d, %s, %s, %s, %s, %d, %d, %d\n", i, g.UUID, g.Name, g.BusID, s.Driver, total, total-reserved-used, used)
	}
	m.write("gpus.csv", gpus.String())
	m.write("apps.csv", apps.String())
	if err := s.WriteFile(m.path("state")); err != nil {
		m.t.Error(err)
	}
}

// write replaces a file at once.
func (m *machine) write(name, text string) {
	file := m.path(name)
	err := os.WriteFile(file+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		m.t.Error(err)
	}
}

// runs says whether a process is there and no zombie, which has let go of its GPU.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}
