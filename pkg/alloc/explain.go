// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"cmp"
	"slices"
)

// OptionVerdict says whether an option fits on a node, and what each device could contribute.
type OptionVerdict struct {
	// Option is the index of the request's option.
	Option int
	// Fits says whether the node could hold it now; Reason why not.
	Fits   bool
	Reason Reason
	// Devices has every device of the node, in the driver's order.
	Devices []DeviceVerdict
}

// DeviceVerdict says what a device would have to hold for an option, and whether it can.
type DeviceVerdict struct {
	UUID  string
	Index int
	// Free is what can be booked now, and Needed what would be: of the devices that may be used together, the one
	// with the most room is asked for the largest share, the next for the next, all others for the smallest.
	Free, Needed Bytes
	// Short is how much is missing; a blocked device has nothing free.
	Short Bytes
	// Reason says why it cannot hold what is needed; empty = it can.
	Reason Reason
}

// Explain judges every option on every device. It is for people, and not for the hot path.
func Explain(n *Node, r *Request) []OptionVerdict {
	n = ByUUID(n)
	verdicts := make([]OptionVerdict, len(r.options))
	for i := range r.options {
		reason := optionReason(n, &r.options[i], r.mixedModels)
		verdicts[i] = OptionVerdict{
			Option: i, Fits: reason == "", Reason: reason, Devices: explainDevices(n, &r.options[i], r.mixedModels),
		}
	}
	return verdicts
}

// Unfit says in one reason why the request does not fit on the node now, and whether it never could; the reason is
// empty if it does fit. Of several options it is the reason of the one that comes closest: blocked devices before
// too little free, before too little capacity.
func Unfit(n *Node, r *Request) (reason Reason, never bool) {
	closest := 0
	for i := range r.options {
		why := optionReason(n, &r.options[i], r.mixedModels)
		if why == "" {
			return "", false
		}
		if c := closeness(why); reason == "" || c > closest {
			reason, closest = why, c
		}
	}
	return reason, !CanEverFit(n, r)
}

// closeness orders reasons by how far an option with that reason is from fitting.
func closeness(r Reason) int {
	switch r {
	case ReasonTooManyDevices, ReasonNotEnoughDevices:
		return 0
	case ReasonMixedModels, ReasonInstances:
		return 1
	case ReasonInsufficientCapacity:
		return 2
	case ReasonInsufficientFree:
		return 3
	}
	return 4
}

// optionReason returns why the option does not fit, or nothing if it does.
func optionReason(n *Node, o *Option, mixed bool) Reason {
	switch {
	case len(n.Devices) > MaxDevices:
		return ReasonTooManyDevices
	case len(o.Shares) > len(n.Devices):
		return ReasonNotEnoughDevices
	}
	var free, unblocked, capacity Amounts
	for i := range n.Devices {
		d := &n.Devices[i]
		free[i], unblocked[i], capacity[i] = d.Free(), d.Capacity.Minus(d.Used), d.Capacity
	}
	switch {
	case holdsAny(n, o, mixed, &free):
		return ""
	case !holdsAny(n, o, mixed, &capacity):
		if holdsAny(asGPUs(n), o, mixed, &capacity) {
			return ReasonInstances
		}
		if holdsAny(n, o, true, &capacity) {
			return ReasonMixedModels
		}
		return ReasonInsufficientCapacity
	case holdsAny(n, o, mixed, &unblocked):
		return blockedBy(n, o, mixed, free)
	}
	return ReasonInsufficientFree
}

// asGPUs returns the node with its MIG instances taken for whole GPUs.
func asGPUs(n *Node) *Node {
	c := &Node{Name: n.Name, Devices: slices.Clone(n.Devices)}
	for i := range c.Devices {
		c.Devices[i].Parent = ""
	}
	return c
}

// blockedBy returns the reason without which the option would fit, if one alone is to blame, else the first; in the
// order of the devices.
func blockedBy(n *Node, o *Option, mixed bool, free Amounts) Reason {
	var first Reason
	for i := range n.Devices {
		reason := n.Devices[i].Blocked
		if reason == "" {
			continue
		}
		if first == "" {
			first = reason
		}
		without := free
		for j := range n.Devices {
			if d := &n.Devices[j]; d.Blocked == reason {
				without[j] = d.Capacity.Minus(d.Used)
			}
		}
		if holdsAny(n, o, mixed, &without) {
			return reason
		}
	}
	return first
}

// explainDevices judges the option on every device.
func explainDevices(n *Node, o *Option, mixed bool) []DeviceVerdict {
	verdicts := make([]DeviceVerdict, len(n.Devices))
	for i := range n.Devices {
		g := group{model: n.Devices[i].Model, all: mixed}
		if mixed && i > 0 || !mixed && !firstOfModel(n, i) {
			continue
		}
		var members []int
		for j := range n.Devices {
			if g.has(&n.Devices[j]) {
				members = append(members, j)
			}
		}
		slices.SortStableFunc(members, func(a, b int) int {
			x, y := &n.Devices[a], &n.Devices[b]
			return cmp.Or(cmp.Compare(o.Room(y, y.Free()), o.Room(x, x.Free())), y.Free().Compare(x.Free()))
		})
		for rank, j := range members {
			share := min(rank, len(o.Shares)-1)
			verdicts[j] = explainDevice(&n.Devices[j], o.Needs(share, &n.Devices[j]))
			if verdicts[j].Reason == ReasonInsufficientFree && !verdicts[j].Free.Less(o.On(share, &n.Devices[j])) {
				verdicts[j].Reason = ReasonNotAlone
			}
			if !o.opens(&n.Devices[j]) {
				verdicts[j].Reason = ReasonInstances
			}
		}
	}
	slices.SortStableFunc(verdicts, func(a, b DeviceVerdict) int { return cmp.Compare(a.Index, b.Index) })
	return verdicts
}

func explainDevice(d *Device, needed Bytes) DeviceVerdict {
	v := DeviceVerdict{UUID: d.UUID, Index: d.Index, Free: d.Free(), Needed: needed}
	v.Short = needed.Minus(v.Free)
	switch {
	case d.Blocked != "":
		v.Reason = d.Blocked
	case v.Short.IsZero():
	case d.Capacity.Less(needed):
		v.Reason = ReasonInsufficientCapacity
	default:
		v.Reason = ReasonInsufficientFree
	}
	return v
}
