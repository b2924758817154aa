// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// changed says whether b is worth a write when a is what was last written. Memory counts from a change of more than
// quantum bytes; since it is compared with what was written, small changes cannot add up unseen. When a pod was last
// active counts only by the second, and when the reading was made not at all.
func changed(a, b *berthv1alpha1.GPUNodeStatus, quantum int64) bool {
	return a.DriverVersion != b.DriverVersion || a.AssignmentsUnknown != b.AssignmentsUnknown ||
		!equality.Semantic.DeepEqual(a.HandOff, b.HandOff) ||
		!slices.EqualFunc(a.Devices, b.Devices, func(a, b berthv1alpha1.GPUDevice) bool {
			return sameDevice(&a, &b, quantum)
		})
}

func sameDevice(a, b *berthv1alpha1.GPUDevice, quantum int64) bool {
	return a.UUID == b.UUID &&
		a.Index == b.Index &&
		a.Parent == b.Parent &&
		a.PCIBusID == b.PCIBusID &&
		a.Model == b.Model &&
		a.ComputeCapability == b.ComputeCapability &&
		a.Health == b.Health &&
		a.Reason == b.Reason &&
		a.AssignedTo == b.AssignedTo && slices.Equal(a.AssignedPods, b.AssignedPods) &&
		near(&a.Memory.Total, &b.Memory.Total, 0) &&
		near(&a.Memory.Reserved, &b.Memory.Reserved, quantum) &&
		near(&a.Memory.Used, &b.Memory.Used, quantum) &&
		slices.Equal(a.Links, b.Links) &&
		ptr.Equal(a.NUMANode, b.NUMANode) &&
		a.PCIeSwitch == b.PCIeSwitch &&
		slices.EqualFunc(a.Processes, b.Processes, func(a, b berthv1alpha1.GPUProcess) bool {
			return a.PodUID == b.PodUID &&
				a.Active == b.Active &&
				a.LastActiveTime.Equal(b.LastActiveTime) &&
				near(&a.Memory, &b.Memory, quantum)
		})
}

// near says whether a and b differ by at most quantum.
func near(a, b *resource.Quantity, quantum int64) bool {
	d := a.Value() - b.Value()
	return -quantum <= d && d <= quantum
}
