// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
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
		handOff:    readHandOff(gn.Status.HandOff),
		receivedAt: now,
	}
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
	r.readActivity(devices, prev, now)
	return r
}

func (r *Report) readDevice(i int, d *berthv1alpha1.GPUDevice, headroom alloc.Bytes) {
	total := bytesOf(&d.Memory.Total)
	r.Devices[i] = alloc.Device{
		UUID:     d.UUID,
		Index:    int(d.Index),
		Model:    d.Model,
		Total:    total,
		Capacity: total.Minus(bytesOf(&d.Memory.Reserved)).Minus(headroom),
	}
	if d.Health != "" && d.Health != berthv1alpha1.DeviceHealthy {
		r.Devices[i].Blocked = alloc.ReasonUnhealthy
	}
	if d.AssignedTo != "" {
		r.assigned[d.AssignedTo] = true
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

// holds says whether the processes of a pod hold memory on any device.
func (r *Report) holds(uid types.UID) bool {
	use := r.pods[uid]
	return use != nil && slices.ContainsFunc(use.onDevice, func(b alloc.Bytes) bool { return !b.IsZero() })
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
