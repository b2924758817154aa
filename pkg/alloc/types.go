// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// MaxDevices is the largest number of devices of one node (sets of devices are bit masks): 8 GPUs cut into
// 7 MIG instances each are 56.
const MaxDevices = 64

// Device is one GPU, or one MIG instance, as the planner sees it.
type Device struct {
	// UUID is the identity.
	UUID string
	// Index is the driver's number of the device (PCI order). It can change over a reboot: for display, and for
	// the order in which an engine sees its devices.
	Index int
	// Model is the marketing name; devices of one name are alike.
	Model string
	// Parent is the UUID of the GPU that a MIG instance is a part of; empty for a whole GPU. A process of CUDA sees one
	// MIG instance, whatever it was given, so an instance is never used together with any other device.
	Parent string
	// Total is the physical memory; an engine's own fraction is a fraction of this.
	Total Bytes
	// Capacity is what can be booked at most: total − reserved − headroom.
	Capacity Bytes
	// Used is the sum of all charges: bookings or measured use, whichever is larger, and nobody's memory.
	// It may exceed Capacity.
	Used Bytes
	// Unused is the memory that may be free when a pod that is placed now starts: what no process holds by the last report,
	// but those of pods that go. An engine that takes a fraction of what is free takes it of this. Nothing is planned by it.
	Unused Bytes
	// Foreign is the part of Used that no pod is charged for.
	Foreign Bytes
	// Blocked says why nothing may be placed here now, whatever is free; empty = it may.
	Blocked Reason
	// Links has bit i set if this device has a fast link (NVLink) to Node.Devices[i], which then has one to it.
	Links uint64
	// NUMA is the NUMA node that the device is attached to, counted from 1; 0 = not known.
	NUMA int
}

// Free is what can still be booked, at least zero; a blocked device has nothing free.
func (d *Device) Free() Bytes {
	if d.Blocked != "" {
		return Bytes{}
	}
	return d.Capacity.Minus(d.Used)
}

// Node is the devices of one node, at most MaxDevices, in the order of their UUIDs.
type Node struct {
	Name    string
	Devices []Device
	// Outlook is what the strategy Fragmentation goes by; nil with any other. It is not changed: views of a node share it.
	Outlook *Outlook
}

// Option is one way to run the model: a number of devices and what each must hold.
type Option struct {
	// Shares is the memory needed per device, largest first; every share is greater than zero.
	Shares []Bytes
	// TensorParallelSize is told to the engine.
	TensorParallelSize int
	// Take, when not zero, is the fraction of a device's Total that the engine takes whatever it needs
	// (a vLLM whose --gpu-memory-utilization is not ours to set), and Outside what it takes on top of that
	// (CUDA context, NCCL). The larger of the share and Take × Total + Outside is booked.
	Take Ratio
	// Outside is what lies outside the engine's own fraction on each device. Also used to derive the fraction
	// that is handed to the engine from its booking.
	Outside Bytes
	// Alone: the option goes only on devices that no pod is charged on, and nobody is to join it. What it books there is for
	// whoever writes the booking: its shares say what it needs.
	Alone bool
	// OfFree: Take is a fraction of what is free when the engine starts. It then takes no more than the device has: what
	// does not leave room for anybody else is the whole device.
	OfFree bool
}

// On returns what share i of the option books on device d.
func (o *Option) On(i int, d *Device) Bytes { return o.Shares[i].Max(o.takes(d)) }

// Needs is what must be free on device d for share i: all that pods can have of it if they are to be alone there.
func (o *Option) Needs(i int, d *Device) Bytes { return o.On(i, d).Max(o.alone(d)) }

// alone is what must be free on the device for nobody else to be there; zero if others may be.
func (o *Option) alone(d *Device) Bytes {
	if !o.Alone {
		return Bytes{}
	}
	return d.Capacity.Minus(d.Foreign)
}

// takes is what the engine takes of a device whatever it needs.
func (o *Option) takes(d *Device) Bytes {
	if o.Take == 0 {
		return Bytes{}
	}
	takes := o.Take.Of(d.Total).Plus(o.Outside)
	if o.OfFree {
		return takes.Min(d.Capacity)
	}
	return takes
}

// Request is what a pod asks for, with its memory known. The zero Request asks for nothing and fits nowhere;
// NewRequest makes one. A pod whose memory is not known yet is Unresolved, another type, and cannot be planned.
type Request struct {
	options     []Option
	mixedModels bool
}

// Unresolved is a request whose memory is not known yet. It can be waited for, never placed.
type Unresolved struct {
	// Model is the URI of what will be loaded.
	Model string
	// Why says what it waits for, or why it cannot be known.
	Why string
}

// NewRequest makes a request of at least one option. mixedModels says that the engine can use devices of unlike
// models together. It fails on a share of zero, on shares that are not largest first, and on two options of one
// device count. The request lists the options fewest devices first, which is the order in which they are preferred.
func NewRequest(options []Option, mixedModels bool) (Request, error) {
	if len(options) == 0 {
		return Request{}, errors.New("a request needs at least one option")
	}
	seen := make(map[int]bool, len(options))
	for i := range options {
		o := &options[i]
		n := len(o.Shares)
		if n == 0 || n > MaxDevices {
			return Request{}, fmt.Errorf("an option needs 1 to %d devices, got %d", MaxDevices, n)
		}
		if seen[n] {
			return Request{}, fmt.Errorf("two options of %d devices", n)
		}
		seen[n] = true
		for j, s := range o.Shares {
			if s.IsZero() {
				return Request{}, fmt.Errorf("the option of %d devices has a share of zero bytes", n)
			}
			if j > 0 && o.Shares[j-1].Less(s) {
				return Request{}, fmt.Errorf("the option of %d devices has its shares not largest first", n)
			}
		}
		if o.TensorParallelSize < 1 {
			return Request{}, fmt.Errorf("the option of %d devices has tensor-parallel size %d", n, o.TensorParallelSize)
		}
	}
	options = slices.Clone(options)
	slices.SortFunc(options, func(a, b Option) int { return cmp.Compare(len(a.Shares), len(b.Shares)) })
	return Request{options: options, mixedModels: mixedModels}, nil
}

// Sharing returns the request as it would be if others could be beside it.
func (r *Request) Sharing() *Request {
	shared := &Request{options: slices.Clone(r.options), mixedModels: r.mixedModels}
	for i := range shared.options {
		shared.options[i].Alone = false
	}
	return shared
}

// Options returns the options, fewest devices first, which must not be changed. Allocation.Option is an index into
// them.
func (r *Request) Options() []Option { return r.options }

// MixedModels says whether one allocation may span devices of unlike models.
func (r *Request) MixedModels() bool { return r.mixedModels }

// DeviceShare is what an allocation books on one device.
type DeviceShare struct {
	UUID   string
	Memory Bytes
}

// Allocation is where a request goes: devices and what is booked on each.
type Allocation struct {
	// Option is the index of the request's option that it follows.
	Option int
	// Devices is in the driver's order (Device.Index), which is the order in which the engine sees them.
	Devices []DeviceShare
	// TensorParallelSize is told to the engine.
	TensorParallelSize int
}

// Reason is a constant sentence; numbers travel beside it as data.
type Reason string
