// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

// Reasons, of a device (why a share cannot go there) and of an option (why it does not fit on the node). The first
// two are found here; those that block a device are set by whoever builds the Node.
const (
	// ReasonInsufficientFree: it would fit if less were booked or in use.
	ReasonInsufficientFree Reason = "not enough free GPU memory"
	// ReasonInsufficientCapacity: it would not fit if nothing else were there.
	ReasonInsufficientCapacity Reason = "not enough GPU memory even if nothing else were there"
	// ReasonNotEnoughDevices: the node has fewer devices than the option needs.
	ReasonNotEnoughDevices Reason = "not enough GPUs"
	// ReasonTooManyDevices: more than MaxDevices.
	ReasonTooManyDevices Reason = "more GPUs than can be planned on"
	// ReasonMixedModels: there are devices enough, but not of one model, and the engine cannot use unlike ones.
	ReasonMixedModels Reason = "not enough GPUs of one model"
	// ReasonInstances: there are devices enough, but MIG instances among them, of which a process can use only one.
	ReasonInstances Reason = "MIG instances cannot be used together"

	// ReasonUnhealthy: the agent reports the device as unhealthy.
	ReasonUnhealthy Reason = "the GPU is unhealthy"
	// ReasonAssigned: a pod holds the whole device through the kubelet's device manager.
	ReasonAssigned Reason = "the GPU is held whole by a pod of the device plugin"
	// ReasonResourceClaimed: a claim of dynamic resource allocation holds the device.
	ReasonResourceClaimed Reason = "the GPU is held by a resource claim"
	// ReasonContested: more than one node says that it has the device.
	ReasonContested Reason = "another node reports the same GPU"
	// ReasonCordoned: an admin keeps new pods off the device.
	ReasonCordoned Reason = "the GPU is cordoned"
	// ReasonSameWorkload: a replica of the pod's own workload is there, and one of the two does not want that.
	ReasonSameWorkload Reason = "a replica of the same workload is on the GPU"
	// ReasonNotAlone: the share would fit, and the pod wants nobody beside it.
	ReasonNotAlone Reason = "another pod is on the GPU, and this one would be alone"
	// ReasonLoading: another pod is loading its model there, and one of the two engines measures free memory while
	// it loads.
	ReasonLoading Reason = "another pod is loading its model on the GPU"
)
