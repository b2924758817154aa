// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package alloctest makes nodes and requests for the tests of the planner and of who builds on it.
package alloctest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/alloc"
)

// TB is a testing.TB or a rapid.T.
type TB interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// CompareBytes lets cmp compare amounts of memory.
var CompareBytes = cmp.Comparer(func(a, b alloc.Bytes) bool { return a == b })

// GPU returns a device of that capacity and use, all in GiB, with the index as its name.
func GPU(index int, capacity, used uint64) alloc.Device {
	return alloc.Device{
		UUID: "GPU-" + string(rune('a'+index)), Index: index, Model: "H100",
		Total: alloc.GiB(capacity).Plus(alloc.MiB(512)), Capacity: alloc.GiB(capacity), Used: alloc.GiB(used),
	}
}

// Blocked returns the device, blocked.
func Blocked(d alloc.Device, why alloc.Reason) alloc.Device {
	d.Blocked = why
	return d
}

// OfModel returns the device as one of that model.
func OfModel(d alloc.Device, name string) alloc.Device {
	d.Model = name
	return d
}

// Node returns a node of these devices.
func Node(devices ...alloc.Device) *alloc.Node { return &alloc.Node{Name: "node", Devices: devices} }

// Instance returns an empty MIG instance of the GPU of an index.
func Instance(uuid string, index int, capacity uint64) alloc.Device {
	d := GPU(index, capacity, 0)
	d.Parent, d.UUID, d.Model = d.UUID, uuid, "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
	return d
}

// BusyNode returns a node of that many 80 GiB devices with full NVLink, on which more and more is used.
func BusyNode(devices int) *alloc.Node {
	n := &alloc.Node{Name: "node"}
	for i := range devices {
		n.Devices = append(n.Devices, alloc.Device{
			UUID:     fmt.Sprintf("GPU-4b1d2c3e-9f1a-4c77-8a55-0d7e9c1b2a%02d", i),
			Index:    devices - 1 - i,
			Model:    "NVIDIA H100 80GB HBM3",
			Total:    alloc.MiB(81559),
			Capacity: alloc.MiB(80791),
			Used:     alloc.GiB(uint64(i * 5 % 7)),
			Links:    (1<<devices - 1) &^ (1 << i),
		})
	}
	return n
}

// PowersOfTwo returns a request of that much memory in all, spread evenly over 1, 2, 4 or 8 devices.
func PowersOfTwo(tb testing.TB, total alloc.Bytes) *alloc.Request {
	return Request(tb, Even(1, total), Even(2, total.DividedUp(2)), Even(4, total.DividedUp(4)), Even(8, total.DividedUp(8)))
}

// Permuted returns the node with its devices in another order and their links moved along.
func Permuted(n *alloc.Node, order []int) *alloc.Node {
	p := &alloc.Node{Name: n.Name}
	for _, from := range order {
		d := n.Devices[from]
		d.Links = 0
		for to, other := range order {
			d.Links |= n.Devices[from].Links >> other & 1 << to
		}
		p.Devices = append(p.Devices, d)
	}
	return p
}

// Request makes a request whose engine cannot use unlike devices.
func Request(tb testing.TB, options ...alloc.Option) *alloc.Request {
	tb.Helper()
	r, err := alloc.NewRequest(options, false)
	if err != nil {
		tb.Fatal(err)
	}
	return &r
}

// Even returns the option of k devices that each hold that share.
func Even(k int, share alloc.Bytes) alloc.Option {
	o := alloc.Option{TensorParallelSize: k}
	for range k {
		o.Shares = append(o.Shares, share)
	}
	return o
}

// UUIDs lists the devices of the allocation.
func UUIDs(a alloc.Allocation) []string {
	var names []string
	for _, d := range a.Devices {
		names = append(names, d.UUID)
	}
	return names
}
