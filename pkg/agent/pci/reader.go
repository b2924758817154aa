// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package pci

import (
	"context"

	"github.com/berth-dev/berth/pkg/agent"
)

// Reader adds to the readings of another Reader where the GPUs are attached. It is not safe for concurrent use.
type Reader struct {
	agent.Reader
	sysRoot string
	// locations is what was found, by bus ID. A place on the bus does not move, and a GPU that fell off the bus is still
	// reported as being there.
	locations map[string]location
}

// NewReader returns a reader that looks GPUs up in the sysfs that is mounted at sysRoot.
func NewReader(r agent.Reader, sysRoot string) *Reader {
	return &Reader{Reader: r, sysRoot: sysRoot, locations: map[string]location{}}
}

// Read reads the devices. What sysfs does not tell is left out.
func (r *Reader) Read(ctx context.Context) (*agent.Reading, error) {
	reading, err := r.Reader.Read(ctx)
	if err != nil {
		return nil, err
	}
	for i := range reading.Devices {
		busID := reading.Devices[i].PCIBusID
		if _, known := r.locations[busID]; known {
			continue
		}
		if l, ok := locate(r.sysRoot, busID); ok {
			r.locations[busID] = l
		}
	}
	shared := switches(r.locations)
	for i := range reading.Devices {
		d := &reading.Devices[i] // MIG instances have the address of their GPU
		d.NUMANode, d.PCIeSwitch = r.locations[d.PCIBusID].numaNode, shared[d.PCIBusID]
	}
	return reading, nil
}
