// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// State is whether pods can get memory of a device, else the first reason why they cannot.
type State uint8

const (
	// Available devices can get pods, as far as memory is free.
	Available State = iota
	// DriverUpgrade: the node waits for everybody to let go of its driver.
	DriverUpgrade
	// Stale: the node's agent is silent, so all else is not known.
	Stale
	// Cut devices are cut into MIG instances, which count in their place.
	Cut
	// Unsupported: the driver cannot say how much memory the device has.
	Unsupported
	// Unhealthy: the agent says so.
	Unhealthy
	// Assigned: a pod of the device plugin holds the device whole.
	Assigned
	// ResourceClaimed: a claim of dynamic resource allocation holds it.
	ResourceClaimed
	// Contested: another node reports the device too.
	Contested
	// NotOurs: the node hands its GPUs out in another way, or it is not known to whom.
	NotOurs
	// UnknownAllocation: a pod of the node has GPUs, and nobody can tell which.
	UnknownAllocation
	// Cordoned: the device is cordoned, or its node.
	Cordoned

	states
)

var stateNames = [states]string{
	"available", "driver-upgrade", "stale", "cut", "unsupported", "unhealthy", "assigned", "resource-claimed", "contested", "not-ours",
	"unknown-allocation", "cordoned",
}

// String returns the name of the state, as metrics have it.
func (s State) String() string { return stateNames[s] }

// stateOf returns the state of a device of a view.
func stateOf(node *corev1.Node, view *gpustate.View, device int, fresh bool) State {
	d := &view.Devices[device]
	switch {
	case view.Report.Unhealthy(device) == berthv1alpha1.DeviceReasonMIGParent:
		return Cut
	case view.Reason == gpustate.ReasonDriverUpgrade:
		return DriverUpgrade
	case !fresh:
		return Stale
	case view.Report.Unhealthy(device) == berthv1alpha1.DeviceReasonMemoryNotSupported:
		return Unsupported
	}
	switch d.Blocked {
	case "":
	case alloc.ReasonAssigned:
		return Assigned
	case alloc.ReasonResourceClaimed:
		return ResourceClaimed
	case alloc.ReasonContested:
		return Contested
	case alloc.ReasonCordoned:
		return Cordoned
	default:
		return Unhealthy
	}
	switch view.Reason {
	case "":
	case gpustate.ReasonUnknownAllocation:
		return UnknownAllocation
	default:
		return NotOurs
	}
	if node.Spec.Unschedulable {
		return Cordoned
	}
	return Available
}

// ReportState is what becomes of a node's report.
type ReportState uint8

const (
	// Fresh reports are believed.
	Fresh ReportState = iota
	// Silent are the reports of agents that have not been heard of for staleAfter.
	Silent
	// Upgrading are those of nodes that wait for a driver upgrade, whose agents are sent away.
	Upgrading
	// Unreadable reports cannot be decoded.
	Unreadable

	reportStates
)

var reportStateNames = [reportStates]string{"fresh", "stale", "driver-upgrade", "unreadable"}

// String returns the name of the state, as metrics have it.
func (s ReportState) String() string { return reportStateNames[s] }
