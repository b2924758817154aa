// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package words

// Reasons of the Events that the plugin writes.
const (
	EventAllocated     = "GPUMemoryAllocated"
	EventEvicting      = "EvictingForGPUMemory"
	EventEvicted       = "EvictedForGPUMemory"
	EventWaiting       = "WaitingForGPUMemory"
	EventMemoryNotBack = "GPUMemoryNotReturned"
	EventClaimDropped  = "GPUMemoryClaimDropped"
	EventOverbooked    = "GPUMemoryOverbooked"
	EventLost          = "GPULost"
	EventUnhealthy     = "GPUUnhealthy"
	EventCordoned      = "GPUCordoned"
	EventCordonUnknown = "CordonedGPUUnknown" // of a Node
	EventUnreadable    = "GPUNodeUnreadable"  // of a GPUNode
	EventContested     = "GPUReportedTwice"   // of a Node
	EventUnallocated   = "BoundWithoutGPUMemory"
	// The next two are of the scheduler's Lease.
	EventPoliciesMissing = "AdmissionPoliciesMissing"
	EventPoliciesInForce = "AdmissionPoliciesInForce"
	// The next two are of pods on a node whose driver is to be replaced.
	EventEvictedForDriver = "EvictedForDriverUpgrade"
	EventHoldsUpDriver    = "HoldsUpDriverUpgrade"
	// The next three are of pods whose GPU is lost, or that hold more than they booked.
	EventEvictedDeviceLost = "EvictedForLostGPU"
	EventEvictedOveruse    = "EvictedForOveruse"
	EventFaultRefused      = "FaultEvictionRefused"
	ActionAllocate         = "Allocating"
	ActionEvict            = "Evicting"
	ActionWait             = "Waiting"
	ActionReadRequest      = "ReadingRequest"
	ActionWatch            = "Watching"
	ActionReadReport       = "ReadingReport"
	ActionCheckPolicies    = "CheckingPolicies"
)
