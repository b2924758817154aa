// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pci finds out where GPUs are attached: the NUMA node, and the PCIe switch that they share. It reads sysfs,
// which shows the host's PCI devices in every container; NVML's nvmlDeviceGetNumaNodeId tells something else (the NUMA
// node that a GPU's own memory is, on Grace Hopper).
package pci

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// DefaultSysRoot is where sysfs is mounted.
const DefaultSysRoot = "/sys"

// location is where one PCI device is attached.
type location struct {
	// numaNode is nil if the system does not say.
	numaNode *int32
	// bridges are the addresses of the PCI bridges above the device, from the CPU downwards.
	bridges []string
}

// address is a PCI device as sysfs names it: domain, bus, device and function.
var address = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// sysfsAddress returns a bus ID of NVML, "00000000:1B:00.0", as sysfs spells it, "0000:1b:00.0"; empty if it is none.
func sysfsAddress(busID string) string {
	domain, rest, ok := strings.Cut(strings.ToLower(busID), ":")
	if !ok {
		return ""
	}
	domain = strings.TrimLeft(domain, "0")
	if len(domain) < 4 {
		domain = strings.Repeat("0", 4-len(domain)) + domain
	}
	if a := domain + ":" + rest; address.MatchString(a) {
		return a
	}
	return ""
}

// locate finds a device below sysRoot; false if it is not there.
func locate(sysRoot, busID string) (location, bool) {
	name := sysfsAddress(busID)
	if name == "" {
		return location{}, false
	}
	// devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:1b:00.0: each component is a bridge of the next.
	path, err := filepath.EvalSymlinks(filepath.Join(sysRoot, "bus/pci/devices", name))
	if err != nil || filepath.Base(path) != name {
		return location{}, false
	}
	l := location{numaNode: numaNode(path)}
	for component := range strings.SplitSeq(filepath.Dir(path), string(filepath.Separator)) {
		if address.MatchString(component) {
			l.bridges = append(l.bridges, component)
		}
	}
	return l, true
}

// numaNode reads a device's NUMA node; nil if the firmware does not tell it, which reads as -1.
func numaNode(device string) *int32 {
	text, err := os.ReadFile(filepath.Join(device, "numa_node"))
	if err != nil {
		return nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || n < 0 {
		return nil
	}
	node := int32(n)
	return &node
}

// switches returns, for each GPU by its bus ID, the lowest bridge that it shares with another one: of the GPUs behind
// one PCIe switch, that is the switch's port towards the CPU. A GPU that shares none is not in the result.
func switches(locations map[string]location) map[string]string {
	behind := map[string]int{}
	for _, l := range locations {
		for _, bridge := range l.bridges {
			behind[bridge]++
		}
	}
	shared := map[string]string{}
	for busID, l := range locations {
		for _, bridge := range l.bridges {
			if behind[bridge] > 1 {
				shared[busID] = bridge
			}
		}
	}
	return shared
}
