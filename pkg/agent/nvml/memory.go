// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
)

// readMemory reads the memory of a device, or says why it gets no pods: without knowing what is free nothing can be
// placed. A call that fails leaves the memory as it was last read, which nobody is given anyway.
func (r *Reader) readMemory(h handle, out *agent.Device) {
	v2, ret := call(r, h.GetMemoryInfo_v2, "nvmlDeviceGetMemoryInfo_v2")
	if ret == nvml.SUCCESS {
		out.Memory = agent.Memory{Total: v2.Total, Reserved: v2.Reserved, Used: usedOf(&v2)}
		return
	}
	if absent(ret) {
		// Drivers before R510 do not tell what they reserve; it is part of what is used.
		var v1 nvml.Memory
		if v1, ret = call(r, h.GetMemoryInfo, "nvmlDeviceGetMemoryInfo"); ret == nvml.SUCCESS {
			out.Memory = agent.Memory{Total: v1.Total, Used: v1.Used}
			return
		}
	}
	out.Message = "memory: " + returnError(ret).Error()
	switch {
	case absent(ret):
		out.Reason = berthv1alpha1.DeviceReasonMemoryNotSupported
	case lost(ret):
		out.Reason = agent.ReasonDeviceLost
	case ret == nvml.ERROR_RESET_REQUIRED:
		out.Reason = agent.ReasonResetRequired
	default:
		out.Reason = agent.ReasonUnreadable
	}
}

// usedOf returns what is allocated, without what is reserved. Drivers disagree on whether "used" contains it; what is
// free tells which it is.
func usedOf(m *nvml.Memory_v2) uint64 {
	if m.Free+m.Used == m.Total && m.Used >= m.Reserved {
		return m.Used - m.Reserved
	}
	return m.Used
}
