// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"errors"
	"fmt"
)

// What can be wrong with an allocation whatever is free; Validate wraps them with the device's UUID.
var (
	ErrNoDevices       = errors.New("the allocation has no devices")
	ErrUnknownDevice   = errors.New("the node has no such device")
	ErrDuplicateDevice = errors.New("the device is in the allocation twice")
	ErrZeroMemory      = errors.New("zero bytes would be booked")
	ErrNotAlone        = errors.New("a MIG instance cannot be used together with other devices")
)

// OverbookedError says that a booking does not fit on its device.
type OverbookedError struct {
	// UUID is the device's identity, and Index its number for display.
	UUID  string
	Index int
	// Free is what could be booked, Needed what would be.
	Free, Needed Bytes
}

// Over returns by how much the booking is too large.
func (e *OverbookedError) Over() Bytes { return e.Needed.Minus(e.Free) }

func (e *OverbookedError) Error() string {
	return fmt.Sprintf("GPU %d (%s): needs %v, has %v free, over by %v", e.Index, e.UUID, e.Needed, e.Free, e.Over())
}

// BlockedError says that nothing may be placed on a device now, whatever is free.
type BlockedError struct {
	UUID   string
	Index  int
	Reason Reason
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("GPU %d (%s): %s", e.Index, e.UUID, e.Reason)
}

// Validate says whether the allocation can be booked on the node as it is. It is the one check for planning,
// Reserve, eviction, the CLI and the tests. It fails on the first device, in the order given, that is unknown, named
// twice, a MIG instance among others, booked with zero bytes (ErrUnknownDevice, ErrDuplicateDevice, ErrNotAlone, ErrZeroMemory), blocked (*BlockedError) or
// too full (*OverbookedError), and on an allocation of no devices (ErrNoDevices).
func Validate(n *Node, a []DeviceShare) error {
	if len(a) == 0 {
		return ErrNoDevices
	}
	for i := range a {
		if err := validateOne(n, a, i); err != nil {
			return err
		}
	}
	return nil
}

func validateOne(n *Node, a []DeviceShare, i int) error {
	share := &a[i]
	d := n.device(share.UUID)
	if d == nil {
		return fmt.Errorf("GPU %q: %w", share.UUID, ErrUnknownDevice)
	}
	for j := range i {
		if a[j].UUID == share.UUID {
			return fmt.Errorf("GPU %d (%s): %w", d.Index, d.UUID, ErrDuplicateDevice)
		}
	}
	switch free := d.Free(); {
	case d.Parent != "" && len(a) > 1:
		return fmt.Errorf("GPU %d (%s): %w", d.Index, d.UUID, ErrNotAlone)
	case share.Memory.IsZero():
		return fmt.Errorf("GPU %d (%s): %w", d.Index, d.UUID, ErrZeroMemory)
	case d.Blocked != "":
		return &BlockedError{UUID: d.UUID, Index: d.Index, Reason: d.Blocked}
	case free.Less(share.Memory):
		return &OverbookedError{UUID: d.UUID, Index: d.Index, Free: free, Needed: share.Memory}
	}
	return nil
}

// device returns the device of that UUID, or nil.
func (n *Node) device(uuid string) *Device {
	if i := n.Position(uuid); i >= 0 {
		return &n.Devices[i]
	}
	return nil
}

// Position returns where the device of that UUID is, or -1.
func (n *Node) Position(uuid string) int {
	for i := range n.Devices {
		if n.Devices[i].UUID == uuid {
			return i
		}
	}
	return -1
}
