// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"context"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
)

// device is what the reader knows of a device beyond one reading.
type device struct {
	// last is the last good reading of it.
	last agent.Device
	// seen is whether the current reading has it.
	seen bool
	// static is whether the name, the address and the compute capability are known.
	static bool
	// processFailures counts readings in a row whose list of processes failed.
	processFailures int
	activity        activity
	health          health
	// awaitsRelease is whether the GPU waits for its clients to let go, to be reset or repartitioned.
	awaitsRelease bool
}

// forgetErrors forgets what a reset of the GPU, or a new driver, has ended.
func (d *device) forgetErrors() {
	d.health = health{}
	d.awaitsRelease = false
	d.activity = activity{}
}

// handle is a device of the current session with the library.
type handle struct {
	nvml.Device
	uuid string
}

func (r *Reader) readDevices(ctx context.Context, count int) []agent.Device {
	slow := r.slowAt.IsZero() || r.now().Sub(r.slowAt) >= slowInterval || r.now().Before(r.slowAt)
	if slow {
		r.slowAt = r.now()
	}
	for _, d := range r.devices {
		d.seen = false
	}
	var out []agent.Device
	var gpus []handle
	for i := range count {
		h, ret := r.gpuAt(i)
		if ret != nvml.SUCCESS {
			// Which one it is, is known by what else is no longer there.
			klog.FromContext(ctx).V(4).Info("GPU has no identity", "index", i, "err", returnError(ret))
			continue
		}
		d := r.known(h.uuid)
		if d.seen {
			continue // listed twice
		}
		gpu := r.readGPU(ctx, h, i, slow)
		out = append(out, gpu)
		if gpu.Reason == "" {
			gpus = append(gpus, h)
		}
		if gpu.Reason == berthv1alpha1.DeviceReasonMIGParent {
			out = append(out, r.readMIG(ctx, h, &gpu)...)
		}
	}
	out = append(out, r.missing(out)...)
	r.links.refresh(r, gpus)
	for i := range out {
		out[i].Links = r.links.of(out[i].UUID)
	}
	return out
}

func (r *Reader) gpuAt(index int) (handle, nvml.Return) {
	h, ret := call(r, func() (nvml.Device, nvml.Return) { return r.lib.DeviceGetHandleByIndex(index) },
		"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex")
	if ret != nvml.SUCCESS {
		return handle{}, ret
	}
	uuid, ret := call(r, h.GetUUID, "nvmlDeviceGetUUID")
	return handle{h, uuid}, ret
}

func (r *Reader) known(uuid string) *device {
	d := r.devices[uuid]
	if d == nil {
		d = &device{}
		r.devices[uuid] = d
	}
	return d
}

// readGPU reads a whole GPU.
func (r *Reader) readGPU(ctx context.Context, h handle, index int, slow bool) agent.Device {
	d := r.known(h.uuid)
	d.seen = true
	d.last.UUID, d.last.Index = h.uuid, index
	if !d.static {
		r.readStatic(h, &d.last)
		d.static = d.last.Model != ""
	}
	out := d.last
	out.Processes, out.ActivityMeasured, out.Reason, out.Message = nil, false, "", ""

	mig := r.migMode(h)
	d.awaitsRelease = mig.pending != mig.current
	r.readMemory(h, &out)
	if out.Reason == "" && mig.current == nvml.DEVICE_MIG_ENABLE {
		out.Reason, out.Message = berthv1alpha1.DeviceReasonMIGParent, "its MIG instances are devices of their own"
		d.health = health{}
	}
	if out.Reason == "" && d.awaitsRelease {
		out.Reason, out.Message = agent.ReasonMIGPending, "its MIG mode changes once no process uses it"
	}
	if mig.current != nvml.DEVICE_MIG_ENABLE && out.Reason != agent.ReasonDeviceLost {
		r.readProcesses(ctx, h, d, &out)
		r.readActivity(h, d, &out)
		r.readHealth(ctx, h, d, &out, slow)
	}
	switch out.Reason {
	case agent.ReasonDeviceLost:
		out.ProcessesUnknown = true
		d.forgetErrors()
		d.awaitsRelease = true
	case agent.ReasonResetRequired, agent.ReasonUnreadable:
		// If a reset made the session's handles invalid, a new session has new ones.
		d.awaitsRelease = true
	}
	d.last.Memory = out.Memory
	d.last.Processes = out.Processes
	return out
}

// readStatic reads what does not change while a device is there.
func (r *Reader) readStatic(h handle, out *agent.Device) {
	if name, ret := call(r, h.GetName, "nvmlDeviceGetName"); ret == nvml.SUCCESS {
		out.Model = name
	}
	if minor, ret := call(r, h.GetMinorNumber, "nvmlDeviceGetMinorNumber"); ret == nvml.SUCCESS {
		out.Minor = &minor
	}
	pci, ret := call(r, h.GetPciInfo, "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo")
	if ret == nvml.SUCCESS {
		out.PCIBusID = busID(&pci)
	}
	type version struct{ major, minor int }
	cc, ret := call(r, func() (version, nvml.Return) {
		major, minor, ret := h.GetCudaComputeCapability()
		return version{major, minor}, ret
	}, "nvmlDeviceGetCudaComputeCapability")
	if ret == nvml.SUCCESS {
		out.ComputeCapability = fmt.Sprintf("%d.%d", cc.major, cc.minor)
	}
}

// missing returns the devices that were there before and are not now, as lost: GPUs that the driver no longer lists,
// and the MIG instances of GPUs that are lost. An instance whose GPU is there was removed, and a GPU whose place on
// the bus another one took was replaced.
func (r *Reader) missing(found []agent.Device) []agent.Device {
	places, readable := map[string]bool{}, map[string]bool{}
	for i := range found {
		places[found[i].PCIBusID] = found[i].Parent == "" && found[i].PCIBusID != ""
		readable[found[i].UUID] = found[i].Reason != agent.ReasonDeviceLost && found[i].Reason != agent.ReasonUnreadable
	}
	var out []agent.Device
	for uuid, d := range r.devices {
		if d.seen {
			continue
		}
		if d.last.Parent == "" && places[d.last.PCIBusID] || d.last.Parent != "" && readable[d.last.Parent] {
			delete(r.devices, uuid)
			continue
		}
		d.forgetErrors()
		d.awaitsRelease = d.last.Parent == ""
		gone := d.last
		gone.Processes, gone.ProcessesUnknown, gone.ActivityMeasured = nil, true, false
		gone.Reason, gone.Message = agent.ReasonDeviceLost, "the driver no longer lists it"
		out = append(out, gone)
	}
	return out
}

// busID returns the address as the driver writes it.
func busID(pci *nvml.PciInfo) string {
	b := make([]byte, 0, len(pci.BusId))
	for _, c := range pci.BusId {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}
