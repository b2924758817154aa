// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Reader reads the GPUs of a node.
type Reader interface {
	// Read returns what the devices hold now. A device that cannot be read is in the result, with a Reason; an
	// error means that nothing could be read, because there is no driver or it is being replaced. Read is not
	// called concurrently.
	Read(ctx context.Context) (*Reading, error)
	// Close lets go of the driver. A Read after it opens the driver again.
	Close() error
}

// ErrStaleLibrary is returned by a Reader that can never succeed in this process, because the driver was upgraded
// since the process loaded the driver's library, which the C library cannot unload.
var ErrStaleLibrary = errors.New("the driver's library in this process is out of date")

// ErrLibraryReplaced is the ErrStaleLibrary of a library whose file was replaced or removed: a new process of the same
// program can load what is there now.
var ErrLibraryReplaced = fmt.Errorf("%w: its file was replaced", ErrStaleLibrary)

// Reading is what a Reader found at one moment.
type Reading struct {
	// DriverVersion is the version of the NVIDIA driver, "580.159.04".
	DriverVersion string
	// LimitsMemory says that the driver has the function by which the memory of a container is limited.
	LimitsMemory bool
	// Devices are the GPUs and MIG instances, each UUID once.
	Devices []Device
	// Released says that the reader does not hold the driver between readings, because a GPU waits to be reset or
	// repartitioned, which no client may hold up. Readings are dearer then, and should be fewer.
	Released bool
}

// Device is one GPU, or one MIG instance.
type Device struct {
	// UUID is the identity.
	UUID string
	// Index is the driver's number of the GPU (of the parent, for a MIG instance); for display only.
	Index int
	// Parent is the UUID of the GPU that a MIG instance is a part of.
	Parent string
	// Minor is the number of the GPU's device file, /dev/nvidia<minor>; nil if it is not known, and for MIG instances.
	Minor *int
	// PCIBusID is the GPU's address, "00000000:07:00.0".
	PCIBusID string
	// Model is the marketing name.
	Model string
	// ComputeCapability is CUDA's, "9.0".
	ComputeCapability string
	// Memory is the memory of the whole device.
	Memory Memory
	// Processes are all processes that hold memory, each PID once.
	Processes []Process
	// ProcessesUnknown says that the processes cannot be listed, so that none is.
	ProcessesUnknown bool
	// ActivityMeasured says whether Process.Active means anything; under MIG, for one, it does not.
	ActivityMeasured bool
	// Reason says why the device can be given to no pod; empty = healthy.
	Reason string
	// Message explains Reason, for the log.
	Message string
	// Links are fast links to other devices.
	Links []berthv1alpha1.GPULink
	// NUMANode is the NUMA node that the GPU is attached to; nil if the system does not say.
	NUMANode *int32
	// PCIeSwitch is the address of the PCIe bridge that the GPU shares with its nearest neighbours; empty if it shares
	// none, or it is not known.
	PCIeSwitch string
}

// Memory is a device's memory in bytes.
type Memory struct {
	// Total is the physical memory.
	Total uint64
	// Reserved is what the driver keeps for itself.
	Reserved uint64
	// Used is what is allocated, without Reserved: Total = Reserved + Used + free.
	Used uint64
}

// Process is one process on one device.
type Process struct {
	// PID is the process's number in the host's PID namespace.
	PID int
	// Memory is what it holds on the device, in bytes; zero if the driver cannot tell.
	Memory uint64
	// Active says whether it computed since the reading before.
	Active bool
	// ActivityUnknown says that this process's activity cannot be measured though the device's can (clients of
	// CUDA MPS, whose kernels are run by the server's process).
	ActivityUnknown bool
}

// pids returns all processes of a reading, each once.
func (r *Reading) pids() []int {
	var pids []int
	seen := map[int]bool{}
	for i := range r.Devices {
		for _, p := range r.Devices[i].Processes {
			if !seen[p.PID] {
				seen[p.PID] = true
				pids = append(pids, p.PID)
			}
		}
	}
	return pids
}

// unlisted returns the devices whose processes are not known.
func (r *Reading) unlisted() map[string]bool {
	unlisted := map[string]bool{}
	for i := range r.Devices {
		if d := &r.Devices[i]; d.ProcessesUnknown {
			unlisted[d.UUID] = true
		}
	}
	return unlisted
}

// Reasons of an unhealthy device that the agent gives beside those of package v1alpha1.
const (
	// ReasonDriverUnavailable: there is no driver, it is being replaced, or it does not answer.
	ReasonDriverUnavailable = berthv1alpha1.DeviceReasonDriverUnavailable
	// ReasonDeviceLost: the GPU fell off the bus, or is no longer listed by the driver.
	ReasonDeviceLost = "DeviceLost"
	// ReasonUnreadable: the driver lists the device but not its memory, and gives no reason that is known here.
	ReasonUnreadable = "Unreadable"
	// ReasonMIGPending: the GPU waits for a change of its MIG mode.
	ReasonMIGPending = berthv1alpha1.DeviceReasonMIGPending
	// ReasonUncorrectableECC: the memory had errors that could not be corrected since the GPU's last reset.
	ReasonUncorrectableECC = "UncorrectableECC"
	// ReasonResetRequired: the driver says that the GPU or the node must be reset before it computes right again.
	ReasonResetRequired = "ResetRequired"
	// ReasonXidPrefix and the number of an Xid: the driver reported this error, after which the GPU does not compute
	// right before it is reset.
	ReasonXidPrefix = "Xid"
)

// Attributor finds the pods of processes.
type Attributor interface {
	// Attribute returns the UIDs of the pods that the processes belong to; a PID that is not in the result belongs
	// to no known pod. It is called with all PIDs of one reading, so that what is remembered of others can go.
	Attribute(pids []int) map[int]types.UID
}

// Names knows the names of the pods of a node.
type Names interface {
	// Names returns the names of the pods that have or had a container on the node, by the UID that their cgroups have.
	Names() (map[types.UID]types.NamespacedName, error)
}

// Assignments tells which devices the kubelet has given away.
type Assignments interface {
	// Assigned returns the pods by what the device plugin calls their devices: a UUID, or the index of a GPU, or
	// "nvidia" and its minor number (GKE's plugin); or NVIDIA's driver of dynamic resource allocation: "gpu-" and the
	// minor number.
	Assigned(ctx context.Context) (map[string][]types.NamespacedName, error)
}
