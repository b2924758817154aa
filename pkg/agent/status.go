// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// modelMixed stands for the model of a node whose GPUs are not all of one.
const modelMixed = "mixed"

// owners says whose a node's memory is.
type owners struct {
	// pods is the pod of each process; a PID without one belongs to nobody that is known.
	pods map[int]types.UID
	// assigned are the pods that hold a device through the kubelet, by what that calls the device: see Assignments.
	assigned map[string][]types.UID
	// assignedUnknown says why that is not known; empty = it is.
	assignedUnknown string
}

// newStatus makes the report of one reading. Activity comes out of the tracker, which it advances.
func newStatus(r *Reading, o *owners, tracker *activityTracker, now time.Time) *berthv1alpha1.GPUNodeStatus {
	s := &berthv1alpha1.GPUNodeStatus{
		DriverVersion:      r.DriverVersion,
		Devices:            make([]berthv1alpha1.GPUDevice, 0, len(r.Devices)),
		AssignmentsUnknown: o.assignedUnknown,
		ObservedTime:       metav1.NewTime(now).Rfc3339Copy(),
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		out := berthv1alpha1.GPUDevice{
			UUID:              d.UUID,
			Index:             int32(d.Index),
			Parent:            d.Parent,
			PCIBusID:          d.PCIBusID,
			Model:             d.Model,
			ComputeCapability: d.ComputeCapability,
			Memory: berthv1alpha1.GPUMemory{
				Total:    quantity(d.Memory.Total),
				Reserved: quantity(d.Memory.Reserved),
				Used:     quantity(d.Memory.Used),
			},
			Processes:    newProcesses(d, o.pods, tracker, now),
			AssignedPods: o.assignedPods(d),
			Health:       berthv1alpha1.DeviceHealthy,
			Reason:       d.Reason,
			Links:        d.Links,
			NUMANode:     d.NUMANode,
			PCIeSwitch:   d.PCIeSwitch,
		}
		if len(out.AssignedPods) > 0 {
			out.AssignedTo = out.AssignedPods[0]
		}
		if d.Reason != "" {
			out.Health = berthv1alpha1.DeviceUnhealthy
		}
		s.Devices = append(s.Devices, out)
	}
	tracker.endReading()
	if s.AssignmentsUnknown == "" {
		s.AssignmentsUnknown = o.unmatched(r.Devices)
	}
	sortDevices(s.Devices)
	s.Summary = newSummary(s.Devices)
	return s
}

// newProcesses sums up the processes of a device by pod: pods in the order of their UIDs, then nobody's.
func newProcesses(
	d *Device, pods map[int]types.UID, tracker *activityTracker, now time.Time,
) []berthv1alpha1.GPUProcess {
	if len(d.Processes) == 0 {
		return nil
	}
	type sum struct {
		memory            uint64
		computed, unknown bool
	}
	sums := map[types.UID]sum{}
	for i := range d.Processes {
		p := &d.Processes[i]
		s := sums[pods[p.PID]]
		s.memory += p.Memory
		s.computed = s.computed || p.Active
		s.unknown = s.unknown || p.ActivityUnknown
		sums[pods[p.PID]] = s
	}
	out := make([]berthv1alpha1.GPUProcess, 0, len(sums))
	for uid, s := range sums {
		p := berthv1alpha1.GPUProcess{PodUID: uid, Memory: quantity(s.memory)}
		// A pod of which one process cannot be measured is idle only in appearance. A foreign process's activity
		// is of no use to anyone.
		if uid != "" && d.ActivityMeasured && (s.computed || !s.unknown) {
			active, last := tracker.observe(podOnDevice{d.UUID, uid}, s.computed, now)
			p.Active = active
			if !active {
				t := metav1.NewTime(last).Rfc3339Copy()
				p.LastActiveTime = &t
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b berthv1alpha1.GPUProcess) int {
		if (a.PodUID == "") != (b.PodUID == "") {
			return strings.Compare(string(b.PodUID), string(a.PodUID))
		}
		return strings.Compare(string(a.PodUID), string(b.PodUID))
	})
	return out
}

// unavailable is the report when nothing can be read: the devices of the last one, none of which gets pods. What
// they held is left as it was last seen, because nobody has seen it go.
func unavailable(last *berthv1alpha1.GPUNodeStatus, now time.Time) *berthv1alpha1.GPUNodeStatus {
	s := &berthv1alpha1.GPUNodeStatus{ObservedTime: metav1.NewTime(now).Rfc3339Copy()}
	if last != nil {
		s.DriverVersion = last.DriverVersion
		s.HandOff = last.HandOff
		s.Devices = slices.Clone(last.Devices)
		s.AssignmentsUnknown = last.AssignmentsUnknown
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Reason != berthv1alpha1.DeviceReasonMIGParent {
			d.Health, d.Reason = berthv1alpha1.DeviceUnhealthy, ReasonDriverUnavailable
		}
	}
	s.Summary = newSummary(s.Devices)
	return s
}

// sortDevices puts MIG instances after their parent, and GPUs in the driver's order.
func sortDevices(devices []berthv1alpha1.GPUDevice) {
	slices.SortFunc(devices, func(a, b berthv1alpha1.GPUDevice) int {
		if a.Index != b.Index {
			return int(a.Index) - int(b.Index)
		}
		if (a.Parent == "") != (b.Parent == "") {
			return strings.Compare(a.Parent, b.Parent)
		}
		return strings.Compare(a.UUID, b.UUID)
	})
}

// newSummary sums up the devices that pods can be given; a GPU that is cut into MIG instances is not one. It is for people, so
// what is free is rounded down to MiB.
func newSummary(devices []berthv1alpha1.GPUDevice) *berthv1alpha1.GPUSummary {
	s := &berthv1alpha1.GPUSummary{}
	var free, largest int64
	for i := range devices {
		d := &devices[i]
		if d.Reason == berthv1alpha1.DeviceReasonMIGParent {
			continue
		}
		s.GPUs++
		switch s.Model {
		case "":
			s.Model = d.Model
		case d.Model, modelMixed:
		default:
			s.Model = modelMixed
		}
		if d.Health != berthv1alpha1.DeviceHealthy || d.AssignedTo != "" {
			continue
		}
		f := max(0, d.Memory.Total.Value()-d.Memory.Reserved.Value()-d.Memory.Used.Value()) &^ (1<<20 - 1)
		free += f
		largest = max(largest, f)
	}
	s.Free = *resource.NewQuantity(free, resource.BinarySI)
	s.LargestFree = *resource.NewQuantity(largest, resource.BinarySI)
	return s
}

func quantity(bytes uint64) resource.Quantity {
	return *resource.NewQuantity(int64(min(bytes, 1<<63-1)), resource.BinarySI)
}
