// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"context"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/agent"
)

// processFailuresTolerated is for how many readings in a row a list of processes that cannot be read stands as it was
// last read. After that the memory has no owner that is known, and counts as foreign.
const processFailuresTolerated = 10

// memoryUnknown is what the driver reports as a process's memory when it cannot tell.
const memoryUnknown = ^uint64(0)

// readProcesses lists who holds memory on a device.
func (r *Reader) readProcesses(ctx context.Context, h handle, d *device, out *agent.Device) {
	processes, ret := r.listProcesses(h)
	if ret == nvml.SUCCESS {
		d.processFailures = 0
		out.Processes = processes
		return
	}
	d.processFailures++
	if d.processFailures == 1 {
		klog.FromContext(ctx).Info("Processes cannot be listed", "device", h.uuid, "err", returnError(ret))
	}
	if d.processFailures <= processFailuresTolerated {
		out.Processes = slices.Clone(d.last.Processes)
	}
	out.ProcessesUnknown = d.processFailures > processFailuresTolerated
}

// listProcesses returns all processes of a device, each once: one that computes and draws is in two lists, with the
// same memory.
func (r *Reader) listProcesses(h handle) ([]agent.Process, nvml.Return) {
	lists := []struct {
		read    func() ([]nvml.ProcessInfo, nvml.Return)
		symbols []string
		// shared says that the server of CUDA MPS runs these processes' kernels, so that their own activity is not seen.
		shared bool
	}{
		{read: h.GetComputeRunningProcesses, symbols: versions("nvmlDeviceGetComputeRunningProcesses")},
		{read: h.GetGraphicsRunningProcesses, symbols: versions("nvmlDeviceGetGraphicsRunningProcesses")},
		{read: h.GetMPSComputeRunningProcesses, symbols: versions("nvmlDeviceGetMPSComputeRunningProcesses"), shared: true},
	}
	byPID := map[int]agent.Process{}
	failure := nvml.SUCCESS
	for _, l := range lists {
		infos, ret := call(r, l.read, l.symbols...)
		if ret != nvml.SUCCESS {
			if !absent(ret) {
				failure = ret
			}
			continue
		}
		for _, info := range infos {
			p := byPID[int(info.Pid)]
			p.PID = int(info.Pid)
			p.ActivityUnknown = p.ActivityUnknown || l.shared
			if info.UsedGpuMemory != memoryUnknown {
				p.Memory = max(p.Memory, info.UsedGpuMemory)
			}
			byPID[p.PID] = p
		}
	}
	processes := make([]agent.Process, 0, len(byPID))
	for _, p := range byPID {
		processes = append(processes, p)
	}
	slices.SortFunc(processes, func(a, b agent.Process) int { return a.PID - b.PID })
	return processes, failure
}

// versions returns the symbols that go-nvml may call for a list of processes.
func versions(symbol string) []string { return []string{symbol + "_v3", symbol + "_v2", symbol} }
