// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"math/bits"
	"slices"
	"strings"
)

// Plan returns an allocation for every option of the request that fits on the node now, best first in the order of
// the package comment. An empty result means that nothing fits; Explain says why.
func Plan(n *Node, r *Request, s Strategy) []Allocation {
	if !plannable(n) {
		return nil
	}
	var f finder
	f.use(ByUUID(n), s)
	var plans []Allocation
	var room []DeviceShare // of all allocations together
	for i := range r.options {
		o := &r.options[i]
		c, ok := f.best(o, r.mixedModels)
		if !ok {
			continue
		}
		if plans == nil {
			plans = make([]Allocation, 0, len(r.options)-i)
			room = make([]DeviceShare, f.shares(r.options[i:]))
		}
		k := len(o.Shares)
		f.assign(o, c.set, room[:k:k])
		plans = append(plans, Allocation{Option: i, Devices: room[:k:k], TensorParallelSize: o.TensorParallelSize})
		room = room[k:]
	}
	return plans
}

// shares returns how many shares those options have that need no more devices than are usable.
func (f *finder) shares(options []Option) int {
	shares := 0
	for i := range options {
		if k := len(options[i].Shares); k <= f.usable {
			shares += k
		}
	}
	return shares
}

// Best returns the first allocation that Plan would return.
func Best(n *Node, r *Request, s Strategy) (Allocation, bool) {
	if !plannable(n) {
		return Allocation{}, false
	}
	var f finder
	f.use(ByUUID(n), s)
	for i := range r.options {
		o := &r.options[i]
		if c, ok := f.best(o, r.mixedModels); ok {
			devices := make([]DeviceShare, len(o.Shares))
			f.assign(o, c.set, devices)
			return Allocation{Option: i, Devices: devices, TensorParallelSize: o.TensorParallelSize}, true
		}
	}
	return Allocation{}, false
}

// Fits says whether any option of the request fits on the node now: whether Plan would return anything.
func Fits(n *Node, r *Request) bool {
	if !plannable(n) {
		return false
	}
	var free Amounts
	for i := range n.Devices {
		free[i] = n.Devices[i].Free()
	}
	return FitsIn(n, r, &free)
}

// CanEverFit says whether any option of the request would fit on the node if nothing else were on it. Only capacity
// counts: a device that is blocked now, even an unhealthy one, may come back.
func CanEverFit(n *Node, r *Request) bool {
	if !plannable(n) {
		return false
	}
	var capacity Amounts
	for i := range n.Devices {
		capacity[i] = n.Devices[i].Capacity
	}
	return FitsIn(n, r, &capacity)
}

// FitsIn says whether any option of the request would fit on the node with that much available on each device, whatever
// the devices say of their use.
func FitsIn(n *Node, r *Request, available *Amounts) bool {
	for i := range r.options {
		if holdsAny(n, &r.options[i], r.mixedModels, available) {
			return true
		}
	}
	return false
}

// Largest returns the largest share that each of that many devices of the node could hold if nothing else were on
// them: that many times as much is the largest total that could ever be placed so. mixed says whether the devices
// may be of unlike models. It is zero if the node has not that many.
func Largest(n *Node, devices int, mixed bool) Bytes {
	if devices < 1 || devices > len(n.Devices) {
		return Bytes{}
	}
	var largest Bytes
	var capacities []Bytes
	for i := range n.Devices {
		if mixed && i > 0 || !mixed && !firstOfModel(n, i) {
			continue
		}
		g := group{model: n.Devices[i].Model, all: mixed}
		capacities = capacities[:0]
		for j := range n.Devices {
			if d := &n.Devices[j]; g.has(d) && (d.Parent == "" || devices == 1) {
				capacities = append(capacities, d.Capacity)
			}
		}
		if len(capacities) >= devices {
			slices.SortFunc(capacities, func(a, b Bytes) int { return b.Compare(a) })
			largest = largest.Max(capacities[devices-1])
		}
	}
	return largest
}

// plannable says whether the node can be planned on at all.
func plannable(n *Node) bool { return len(n.Devices) > 0 && len(n.Devices) <= MaxDevices }

// ByUUID returns the node with its devices in the order of their UUIDs, which is how Node wants them: the node
// itself if they are, else a copy.
func ByUUID(n *Node) *Node {
	inOrder := func(a, b Device) int { return strings.Compare(a.UUID, b.UUID) }
	sorted := true
	for i := 1; i < len(n.Devices) && sorted; i++ {
		sorted = n.Devices[i-1].UUID <= n.Devices[i].UUID
	}
	if sorted {
		return n
	}
	c := &Node{Name: n.Name, Devices: slices.Clone(n.Devices), Outlook: n.Outlook}
	slices.SortStableFunc(c.Devices, inOrder)
	// Links are by position, so they move too.
	to := make([]int, len(n.Devices))
	for i := range n.Devices {
		to[i] = slices.IndexFunc(c.Devices, func(d Device) bool { return d.UUID == n.Devices[i].UUID })
	}
	for i := range c.Devices {
		var links uint64
		for rest := c.Devices[i].Links; rest != 0; rest &= rest - 1 {
			if from := bits.TrailingZeros64(rest); from < len(n.Devices) {
				links |= 1 << to[from]
			}
		}
		c.Devices[i].Links = links
	}
	return c
}
