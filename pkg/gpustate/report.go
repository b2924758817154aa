// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"math/bits"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Report is one GPUNode, read once when it arrives into the form that a view needs. It is immutable.
type Report struct {
	// Node is the name of the node.
	Node string
	// Devices is the template of the view: in the order of their UUIDs, with Capacity set and Used zero. A device
	// that is unhealthy or held as a whole is Blocked.
	Devices []alloc.Device
	// measured[i] is what the driver says is in use on device i, never less than what its processes hold together.
	measured []alloc.Bytes
	// pods is what each reported pod holds.
	pods map[types.UID]*podUse
	// assigned says which pods hold a whole device through the device manager.
	assigned map[types.UID]bool
	// AssignmentsUnknown says that the agent cannot tell which pods those are.
	AssignmentsUnknown bool
	// pci[i] is the address of device i on the PCI bus, in Kubernetes' form; empty if it is not reported.
	pci []string
	// unhealthy[i] is why device i is unhealthy, as its agent says; nil if all are healthy.
	unhealthy []string
	// failed are, as bits, the devices with a fault, see Failed.
	failed uint64
	// instances says whether any device is a MIG instance.
	instances bool
	// rivals[i] are the other nodes that report device i too, stale ones included; nil if there are none for any device.
	rivals [][]string
	// handOff is what each runtime handler takes; one that is missing was not looked at.
	handOff map[string]runtimeForms
	// receivedAt is when the scheduler got it, by its own monotonic clock.
	receivedAt time.Time
}

// podUse is what the processes of one pod hold, by the driver.
type podUse struct {
	// onDevice[i] is the memory on device i.
	onDevice []alloc.Bytes
	// activity is whether any of its processes computes.
	activity activity
	// idleSince, if activity is idle, is since when, by the scheduler's own clock.
	idleSince time.Time
	// lastActive, if activity is idle, is when it was last seen computing, by the agent's clock.
	lastActive time.Time
}

type activity uint8

const (
	// activityUnknown: not measured, which is not idle.
	activityUnknown activity = iota
	activityActive
	activityIdle
)

// newReport reads a GPUNode. headroom is kept free on each device. prev is the node's report before it, or nil; it
// carries since when a pod has been idle.
func newReport(gn *berthv1alpha1.GPUNode, headroom alloc.Bytes, prev *Report, now time.Time) *Report {
	devices := slices.Clone(gn.Status.Devices)
	slices.SortFunc(devices, func(a, b berthv1alpha1.GPUDevice) int { return strings.Compare(a.UUID, b.UUID) })
	devices = slices.CompactFunc(devices, func(a, b berthv1alpha1.GPUDevice) bool { return a.UUID == b.UUID })
	if len(devices) > alloc.MaxDevices {
		devices = devices[:alloc.MaxDevices]
	}
	r := &Report{
		Node:       gn.Name,
		Devices:    make([]alloc.Device, len(devices)),
		measured:   make([]alloc.Bytes, len(devices)),
		pods:       map[types.UID]*podUse{},
		assigned:   map[types.UID]bool{},
		pci:        make([]string, len(devices)),
		handOff:    readHandOff(gn.Status.HandOff),
		receivedAt: now,
	}
	r.AssignmentsUnknown = gn.Status.AssignmentsUnknown != ""
	for i := range devices {
		r.readDevice(i, &devices[i], headroom)
	}
	for i := range devices {
		for _, l := range devices[i].Links {
			if l.Type != berthv1alpha1.LinkNVLink {
				continue
			}
			if j := r.indexOf(l.Peer); j >= 0 && j != i {
				r.Devices[i].Links |= 1 << j
			}
		}
	}
	r.blockInstances()
	r.readActivity(devices, prev, now)
	return r
}

// blockInstances blocks the MIG instances of a GPU that is held as a whole.
func (r *Report) blockInstances() {
	if !r.instances {
		return
	}
	for i := range r.Devices {
		if p := r.indexOf(r.Devices[i].Parent); p >= 0 && r.Devices[p].Blocked == alloc.ReasonAssigned && r.Devices[i].Blocked == "" {
			r.Devices[i].Blocked = alloc.ReasonAssigned
		}
	}
}

func (r *Report) readDevice(i int, d *berthv1alpha1.GPUDevice, headroom alloc.Bytes) {
	total := bytesOf(&d.Memory.Total)
	r.Devices[i] = alloc.Device{
		UUID:     d.UUID,
		Index:    int(d.Index),
		Model:    d.Model,
		Parent:   d.Parent,
		Total:    total,
		Capacity: total.Minus(bytesOf(&d.Memory.Reserved)).Minus(headroom),
	}
	if d.NUMANode != nil {
		r.Devices[i].NUMA = int(*d.NUMANode) + 1
	}
	if d.Health != "" && d.Health != berthv1alpha1.DeviceHealthy {
		r.Devices[i].Blocked = alloc.ReasonUnhealthy
		if r.unhealthy == nil {
			r.unhealthy = make([]string, len(r.Devices))
		}
		r.unhealthy[i] = d.Reason
	}
	if d.HasFault() && d.Reason != berthv1alpha1.DeviceReasonDriverUnavailable {
		r.failed |= 1 << i
	}
	r.pci[i], r.instances = shortBusID(d.PCIBusID), r.instances || d.Parent != ""
	for _, pod := range d.Assigned() {
		r.assigned[pod] = true
		r.Devices[i].Blocked = alloc.ReasonAssigned
	}
	var held alloc.Bytes
	for j := range d.Processes {
		p := &d.Processes[j]
		memory := bytesOf(&p.Memory)
		held = held.Plus(memory)
		if p.PodUID == "" {
			continue
		}
		use := r.pods[p.PodUID]
		if use == nil {
			use = &podUse{onDevice: make([]alloc.Bytes, len(r.Devices))}
			r.pods[p.PodUID] = use
		}
		use.onDevice[i] = use.onDevice[i].Plus(memory)
	}
	r.measured[i] = bytesOf(&d.Memory.Used).Max(held)
	r.Devices[i].Unused = total.Minus(bytesOf(&d.Memory.Reserved))
}

// readActivity derives since when each pod has been idle. A pod is active if any of its processes is, idle if none
// is and at least one was seen computing before, and otherwise unknown: activity that is not measured (MIG) must not
// look like idleness.
func (r *Report) readActivity(devices []berthv1alpha1.GPUDevice, prev *Report, now time.Time) {
	lastActive := map[types.UID]time.Time{}
	unmeasured := map[types.UID]bool{}
	for i := range devices {
		for j := range devices[i].Processes {
			p := &devices[i].Processes[j]
			use := r.pods[p.PodUID]
			switch {
			case use == nil:
			case p.Active:
				use.activity = activityActive
			case p.LastActiveTime == nil:
				unmeasured[p.PodUID] = true
			case p.LastActiveTime.After(lastActive[p.PodUID]):
				lastActive[p.PodUID] = p.LastActiveTime.Time
			}
		}
	}
	for uid, use := range r.pods {
		last, ok := lastActive[uid]
		if use.activity == activityActive || !ok || unmeasured[uid] {
			continue
		}
		use.activity, use.lastActive, use.idleSince = activityIdle, last, now
		if prev == nil {
			// Found idle when the scheduler started: only then is the agent's clock believed, and never into the future.
			if idle := now.Sub(last); idle > 0 {
				use.idleSince = now.Add(-idle)
			}
			continue
		}
		// A later time means that it computed between the two reports, too shortly to be seen as active.
		if before := prev.pods[uid]; before != nil && before.activity == activityIdle && !last.After(before.lastActive) {
			use.idleSince = before.idleSince
		}
	}
}

// indexOf returns the position of a device, or -1.
func (r *Report) indexOf(uuid string) int {
	for i := range r.Devices {
		if r.Devices[i].UUID == uuid {
			return i
		}
	}
	return -1
}

// placesOf returns on which devices, as bits, a booking of a device counts. That is the device itself; if it has been cut
// into MIG instances since, each of them too; if it was an instance and is gone, the GPU that it was a part of (parent)
// and what that is cut into now. A pod whose GPU was reconfigured under it may start on any of these, or still be on
// them. No bit = the device is gone.
func (r *Report) placesOf(uuid, parent string) (on uint64) {
	i := r.indexOf(uuid)
	if i >= 0 {
		on = 1 << i
	} else if p := r.indexOf(parent); p >= 0 {
		on, uuid = 1<<p, parent
	}
	if r.instances {
		for j := range r.Devices {
			if r.Devices[j].Parent == uuid {
				on |= 1 << j
			}
		}
	}
	return on
}

// DevicesOf returns on which devices of the report, as bits, any of what is booked by an allocation counts.
func (r *Report) DevicesOf(a *Allocation) (on uint64) {
	for j := range a.Devices {
		on |= r.placesOf(a.Devices[j].UUID, a.parentOf(j))
	}
	return on
}

// Lost returns the devices of an allocation that the report does not have.
func (r *Report) Lost(a *Allocation) (lost []LostDevice) {
	for j := range a.Devices {
		if uuid := a.Devices[j].UUID; r.indexOf(uuid) < 0 {
			lost = append(lost, LostDevice{UUID: uuid, Charged: r.placesOf(uuid, a.parentOf(j)) != 0})
		}
	}
	return lost
}

// hasProcessesOf says whether the processes of a pod hold memory on any device.
func (r *Report) hasProcessesOf(uid types.UID) bool {
	use := r.pods[uid]
	return use != nil && slices.ContainsFunc(use.onDevice, func(b alloc.Bytes) bool { return !b.IsZero() })
}

// Unhealthy returns why a device is unhealthy, as the agent of its node says; empty if it is healthy, or no reason is given.
func (r *Report) Unhealthy(device int) string {
	if r.unhealthy == nil {
		return ""
	}
	return r.unhealthy[device]
}

// Failed returns, as bits, the devices that their agent says have a fault. One whose driver is away is not among them: that
// is how it looks while the driver is replaced, or loads.
func (r *Report) Failed() uint64 { return r.failed }

// Overused returns, as bits, the devices on which a booked pod is measured to hold more than it booked and a margin.
func (r *Report) Overused(e *Entry, margin alloc.Bytes) (on uint64) {
	use := r.pods[e.UID]
	if use == nil || e.Allocation == nil || e.Allocation.Whole {
		return 0
	}
	var booked [alloc.MaxDevices]alloc.Bytes
	for j, share := range e.Allocation.Devices {
		for at := r.placesOf(share.UUID, e.Allocation.parentOf(j)); at != 0; at &= at - 1 {
			i := bits.TrailingZeros64(at)
			booked[i] = booked[i].Plus(share.Memory)
		}
	}
	for i, measured := range use.onDevice {
		if booked[i].Plus(margin).Less(measured) {
			on |= 1 << i
		}
	}
	return on
}

// Measured returns what a pod is measured to hold on a device.
func (r *Report) Measured(pod types.UID, device int) alloc.Bytes {
	if use := r.pods[pod]; use != nil {
		return use.onDevice[device]
	}
	return alloc.Bytes{}
}

// EachPod calls f for each pod of whose processes the report tells, with what they hold on each device. The slice must not
// be changed.
func (r *Report) EachPod(f func(uid types.UID, onDevice []alloc.Bytes)) {
	for uid, use := range r.pods {
		f(uid, use.onDevice)
	}
}

// IdleSince returns since when a pod has been measured idle, by the clock of the store; false if it is active or its
// activity is not measured.
func (r *Report) IdleSince(uid types.UID) (time.Time, bool) {
	use := r.pods[uid]
	if use == nil || use.activity != activityIdle {
		return time.Time{}, false
	}
	return use.idleSince, true
}

func bytesOf(q *resource.Quantity) alloc.Bytes { return alloc.BytesOfInt64(q.Value()) }
