// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"context"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/agent"
)

// migMode is the MIG mode of a GPU, now and as it will be once the GPU was reset.
type migMode struct{ current, pending int }

// migMode reads the mode; a GPU that has none is not cut.
func (r *Reader) migMode(h handle) migMode {
	m, ret := call(r, func() (migMode, nvml.Return) {
		current, pending, ret := h.GetMigMode()
		return migMode{current, pending}, ret
	}, "nvmlDeviceGetMigMode")
	if ret != nvml.SUCCESS {
		return migMode{}
	}
	return m
}

// readMIG reads the MIG instances of a GPU. They have their own memory and processes; the driver does not measure
// their processes' activity.
func (r *Reader) readMIG(ctx context.Context, parent handle, gpu *agent.Device) []agent.Device {
	count, ret := call(r, parent.GetMaxMigDeviceCount, "nvmlDeviceGetMaxMigDeviceCount")
	if ret != nvml.SUCCESS {
		klog.FromContext(ctx).V(4).Info("MIG instances cannot be listed", "device", parent.uuid, "err", returnError(ret))
		return nil
	}
	var out []agent.Device
	for i := range count {
		h, ret := call(r, func() (nvml.Device, nvml.Return) { return parent.GetMigDeviceHandleByIndex(i) },
			"nvmlDeviceGetMigDeviceHandleByIndex")
		if ret != nvml.SUCCESS {
			continue // a slot without an instance
		}
		uuid, ret := call(r, h.GetUUID, "nvmlDeviceGetUUID")
		if ret != nvml.SUCCESS {
			klog.FromContext(ctx).V(4).Info("MIG instance has no identity", "device", parent.uuid, "instance", i)
			continue
		}
		out = append(out, r.readInstance(ctx, handle{h, uuid}, gpu))
	}
	return out
}

func (r *Reader) readInstance(ctx context.Context, h handle, gpu *agent.Device) agent.Device {
	d := r.known(h.uuid)
	d.seen = true
	if !d.static {
		name, ret := call(r, h.GetName, "nvmlDeviceGetName")
		d.static = ret == nvml.SUCCESS
		d.last.Model = name
	}
	d.last.UUID, d.last.Parent, d.last.Index = h.uuid, gpu.UUID, gpu.Index
	d.last.PCIBusID, d.last.ComputeCapability = gpu.PCIBusID, gpu.ComputeCapability
	out := d.last
	out.Processes, out.Reason, out.Message = nil, "", ""
	r.readMemory(h, &out)
	if out.Reason == "" {
		r.readProcesses(ctx, h, d, &out)
	}
	d.last.Memory, d.last.Processes = out.Memory, out.Processes
	return out
}
