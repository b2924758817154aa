// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/agent"
)

// health is what went wrong with a GPU since its last reset.
type health struct {
	// xid is the last Xid after which the GPU has to be reset; zero if there was none.
	xid uint64
	// checked is whether the GPU's state was read since: the driver's word on it then counts.
	checked bool
	// reason and message are what the last check found.
	reason, message string
}

// maxEvents bounds how many events one reading takes.
const maxEvents = 64

// eventTypes are the errors that the driver tells of as they happen.
const eventTypes = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError

// fatalXids are those after which NVIDIA's Xid catalog wants the GPU reset, or the node rebooted. All others are
// errors of one application (13, 31, 43, 45, 68, 94), or for the statistics (63, 92).
var fatalXids = map[uint64]string{
	46:  "GPU stopped processing",
	48:  "double-bit ECC error",
	62:  "internal micro-controller halt",
	64:  "row remapping failed",
	74:  "NVLink error",
	79:  "GPU has fallen off the bus",
	95:  "uncontained memory error",
	109: "context switch timeout",
	119: "GSP RPC timeout",
	120: "GSP error",
	136: "link training failed",
	140: "unrecovered ECC error",
	143: "GPU initialization failed",
}

// eccXids end when the counter of uncorrectable errors, which a reset clears, is zero.
var eccXids = map[uint64]bool{48: true, 64: true, 95: true, 140: true}

// subscribe asks the driver for events. A driver without them is polled all the same.
func (r *Reader) subscribe(ctx context.Context) {
	set, ret := call(r, r.lib.EventSetCreate, "nvmlEventSetCreate")
	if ret != nvml.SUCCESS {
		klog.FromContext(ctx).V(2).Info("No events from the driver", "err", returnError(ret))
		return
	}
	r.events = set
	count, _ := call(r, r.lib.DeviceGetCount, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount")
	for i := range count {
		h, ret := r.gpuAt(i)
		if ret != nvml.SUCCESS {
			continue
		}
		supported, ret := call(r, h.GetSupportedEventTypes, "nvmlDeviceGetSupportedEventTypes")
		if ret == nvml.SUCCESS {
			_, ret = call(r, func() (struct{}, nvml.Return) {
				return struct{}{}, h.RegisterEvents(supported&eventTypes, set)
			}, "nvmlDeviceRegisterEvents")
		}
		if ret != nvml.SUCCESS {
			klog.FromContext(ctx).V(2).Info("No events of device", "device", h.uuid, "err", returnError(ret))
		}
	}
}

func (r *Reader) unsubscribe() {
	if r.events == nil {
		return
	}
	set := r.events
	r.events = nil
	_, _ = call(r, func() (struct{}, nvml.Return) { return struct{}{}, set.Free() }, "nvmlEventSetFree")
}

// pollEvents takes the events that have arrived, without waiting for any.
func (r *Reader) pollEvents(ctx context.Context) {
	for range maxEvents {
		if r.events == nil {
			return
		}
		event, ret := call(r, func() (nvml.EventData, nvml.Return) { return r.events.Wait(0) },
			"nvmlEventSetWait_v2", "nvmlEventSetWait")
		if ret != nvml.SUCCESS {
			return // nvml.ERROR_TIMEOUT: no more
		}
		xid := event.EventData
		if event.EventType == nvml.EventTypeDoubleBitEccError {
			xid = 48
		}
		meaning, fatal := fatalXids[xid]
		uuid, ret := call(r, event.Device.GetUUID, "nvmlDeviceGetUUID")
		klog.FromContext(ctx).Info("Xid", "device", uuid, "xid", xid, "meaning", meaning, "fatal", fatal)
		if d := r.devices[uuid]; fatal && ret == nvml.SUCCESS && d != nil {
			d.health.xid, d.health.checked = xid, false
		}
	}
}

// readHealth decides whether a GPU can be trusted with pods. Checks are slow on some drivers, so only some readings
// make them.
func (r *Reader) readHealth(ctx context.Context, h handle, d *device, out *agent.Device, slow bool) {
	if slow {
		r.check(ctx, h, d)
	}
	reason, message := d.health.reason, d.health.message
	if reason == "" && d.health.xid != 0 {
		reason = agent.ReasonXidPrefix + strconv.FormatUint(d.health.xid, 10)
		message = fatalXids[d.health.xid]
	}
	if reason == "" {
		return
	}
	// A reset needs all clients gone.
	d.awaitsRelease = true
	if out.Reason == "" {
		out.Reason, out.Message = reason, message
	}
}

// check asks the driver for the state of a GPU: what it says must be done first (R560 and later), then, where it
// does not say, the counters that a reset clears.
func (r *Reader) check(ctx context.Context, h handle, d *device) {
	d.health.reason, d.health.message = "", ""
	if action, ret := r.recoveryAction(h); ret == nvml.SUCCESS {
		switch {
		case action != nvml.GPU_RECOVERY_ACTION_NONE:
			d.health.reason = agent.ReasonResetRequired
			d.health.message = fmt.Sprintf("the driver asks for recovery action %d", action)
		case d.health.xid != 0 && d.health.checked:
			klog.FromContext(ctx).Info("Xid is over, the driver says", "device", h.uuid, "xid", d.health.xid)
			d.health.xid = 0
		}
		// The driver may take a moment from the event to the state.
		d.health.checked = true
		return
	}
	errors, ret := call(r, func() (uint64, nvml.Return) {
		return h.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	}, "nvmlDeviceGetTotalEccErrors")
	if ret == nvml.SUCCESS {
		switch {
		case errors > 0:
			d.health.reason = agent.ReasonUncorrectableECC
			d.health.message = fmt.Sprintf("%d uncorrectable memory errors since the last reset", errors)
		case eccXids[d.health.xid] && d.health.checked:
			d.health.xid = 0
		}
	}
	failed, ret := call(r, func() (bool, nvml.Return) {
		_, _, _, failed, ret := h.GetRemappedRows()
		return failed, ret
	}, "nvmlDeviceGetRemappedRows")
	if ret == nvml.SUCCESS && failed {
		d.health.reason, d.health.message = agent.ReasonUncorrectableECC, "memory rows could not be remapped"
	}
	d.health.checked = true
}

// recoveryAction is what the driver says has to be done to a GPU.
func (r *Reader) recoveryAction(h handle) (nvml.DeviceGpuRecoveryAction, nvml.Return) {
	return call(r, func() (nvml.DeviceGpuRecoveryAction, nvml.Return) {
		fields := []nvml.FieldValue{{FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
		if ret := h.GetFieldValues(fields); ret != nvml.SUCCESS {
			return 0, ret
		}
		if ret := nvml.Return(fields[0].NvmlReturn); ret != nvml.SUCCESS {
			return 0, ret
		}
		return nvml.DeviceGpuRecoveryAction(binary.NativeEndian.Uint32(fields[0].Value[:4])), nvml.SUCCESS
	}, "nvmlDeviceGetFieldValues")
}
