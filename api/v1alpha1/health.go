// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ConditionGPUUnhealthy is the type of a Node's condition that is True while a GPU of the node has a fault. It is named, and
// written, as those of node-problem-detector: True is the problem.
const ConditionGPUUnhealthy = "GPUUnhealthy"

// DeviceReasonMIGPending: the GPU waits for its clients to let go, to change its MIG mode.
const DeviceReasonMIGPending = "MIGModePending"

// DeviceReasonDriverUnavailable: there is no driver, it is being replaced, or it does not answer.
const DeviceReasonDriverUnavailable = "DriverUnavailable"

// HasFault says whether something is wrong with the device. One that gets no pods because an admin cut it into instances, or
// because its memory cannot be told by design, works.
func (d *GPUDevice) HasFault() bool {
	switch d.Reason {
	case DeviceReasonMIGParent, DeviceReasonMIGPending, DeviceReasonMemoryNotSupported:
		return false
	}
	return d.Health == DeviceUnhealthy
}
