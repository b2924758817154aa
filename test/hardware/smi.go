// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/agent"
)

const (
	mib = 1 << 20
	// The fields that nvidia-smi is asked for, which all drivers know that the agent supports.
	gpuFields = "index,uuid,name,pci.bus_id,driver_version,memory.total,memory.free,memory.used"
	appFields = "gpu_uuid,pid,used_memory"
)

// smiGPU is a line of nvidia-smi --query-gpu. Memory is in MiB, nil if the driver does not tell.
type smiGPU struct {
	Index                     int
	UUID, Name, BusID, Driver string
	Total, Free, Used         *uint64
}

// smiApp is a line of nvidia-smi --query-compute-apps.
type smiApp struct {
	UUID string
	PID  int
	Used *uint64
}

// smi is what nvidia-smi says.
type smi struct {
	GPUs []smiGPU
	Apps []smiApp
}

// askSMI runs nvidia-smi, twice.
func askSMI(ctx context.Context, program string) (*smi, error) {
	query := func(q string) (string, error) {
		out, err := exec.CommandContext(ctx, program, q, "--format=csv,noheader,nounits").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w: %s", program, q, err, strings.TrimSpace(string(out)))
		}
		return string(out), nil
	}
	gpus, err := query("--query-gpu=" + gpuFields)
	if err != nil {
		return nil, err
	}
	apps, err := query("--query-compute-apps=" + appFields)
	if err != nil {
		return nil, err
	}
	s := &smi{}
	if s.GPUs, err = parseGPUs(gpus); err != nil {
		return nil, err
	}
	s.Apps, err = parseApps(apps)
	return s, err
}

func parseGPUs(text string) ([]smiGPU, error) {
	rows, err := parseCSV(text, gpuFields)
	if err != nil {
		return nil, err
	}
	gpus := make([]smiGPU, 0, len(rows))
	for _, row := range rows {
		g := smiGPU{UUID: row[1], Name: row[2], BusID: row[3], Driver: row[4]}
		if g.Index, err = strconv.Atoi(row[0]); err != nil {
			return nil, fmt.Errorf("nvidia-smi: index %q of a GPU", row[0])
		}
		for i, to := range []**uint64{&g.Total, &g.Free, &g.Used} {
			if *to, err = memoryOf(row[5+i]); err != nil {
				return nil, err
			}
		}
		gpus = append(gpus, g)
	}
	return gpus, nil
}

func parseApps(text string) ([]smiApp, error) {
	rows, err := parseCSV(text, appFields)
	if err != nil {
		return nil, err
	}
	apps := make([]smiApp, 0, len(rows))
	for _, row := range rows {
		a := smiApp{UUID: row[0]}
		if a.PID, err = strconv.Atoi(row[1]); err != nil {
			return nil, fmt.Errorf("nvidia-smi: PID %q", row[1])
		}
		if a.Used, err = memoryOf(row[2]); err != nil {
			return nil, err
		}
		apps = append(apps, a)
	}
	return apps, nil
}

func parseCSV(text, fields string) ([][]string, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.TrimLeadingSpace, r.LazyQuotes = true, true
	r.FieldsPerRecord = strings.Count(fields, ",") + 1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi: %w in %q", err, text)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
	}
	return rows, nil
}

// memoryOf reads a number of MiB. What nvidia-smi has no number for it writes in brackets: [N/A], [Not Supported],
// [Insufficient Permissions], [GPU is lost].
func memoryOf(s string) (*uint64, error) {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") || s == "N/A" {
		return nil, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi: memory %q", s)
	}
	return &v, nil
}

// differences says where the agent's reading of a GPU is not what nvidia-smi says. The agent read before and after
// nvidia-smi did, and memory may have changed in between.
func (s *smi) differences(before, after *agent.Device) []string {
	var diffs []string
	differ := func(what string, got, want any) {
		diffs = append(diffs, fmt.Sprintf("%s: the agent says %v, nvidia-smi %v", what, got, want))
	}
	var gpu *smiGPU
	for i := range s.GPUs {
		if s.GPUs[i].UUID == before.UUID {
			gpu = &s.GPUs[i]
		}
	}
	if gpu == nil {
		return []string{"nvidia-smi does not list the GPU"}
	}
	if gpu.Index != before.Index {
		differ("index", before.Index, gpu.Index)
	}
	if gpu.Name != before.Model {
		differ("model", before.Model, gpu.Name)
	}
	if !strings.EqualFold(gpu.BusID, before.PCIBusID) {
		differ("PCI address", before.PCIBusID, gpu.BusID)
	}
	compare := func(what string, want *uint64, a, b uint64) {
		if want != nil && !between(*want, a, b) {
			differ(what+" in MiB", fmt.Sprintf("%d, then %d", a/mib, b/mib), *want)
		}
	}
	compare("memory.total", gpu.Total, before.Memory.Total, after.Memory.Total)
	compare("memory.free", gpu.Free, freeOf(before.Memory), freeOf(after.Memory))
	compare("memory.used", gpu.Used, before.Memory.Used, after.Memory.Used)
	for _, app := range s.Apps {
		if app.UUID != before.UUID {
			continue
		}
		a, b := processOf(before, app.PID), processOf(after, app.PID)
		switch {
		case a == nil && b == nil:
			differ(fmt.Sprintf("process %d", app.PID), "nothing", "that it is there")
		case a != nil && b != nil:
			compare(fmt.Sprintf("memory of process %d", app.PID), app.Used, a.Memory, b.Memory)
		}
	}
	return diffs
}

// between says whether a number of MiB is between two numbers of bytes, whatever way it was rounded.
func between(v, a, b uint64) bool {
	return v+1 >= min(a, b)/mib && v <= max(a, b)/mib+1
}

func freeOf(m agent.Memory) uint64 {
	if m.Reserved+m.Used > m.Total {
		return 0
	}
	return m.Total - m.Reserved - m.Used
}

func processOf(d *agent.Device, pid int) *agent.Process {
	for i := range d.Processes {
		if d.Processes[i].PID == pid {
			return &d.Processes[i]
		}
	}
	return nil
}
