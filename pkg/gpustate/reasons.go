// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import "github.com/berth-dev/berth/pkg/alloc"

// Reasons why a node, or a pod, cannot be used. They are constant sentences, because the scheduler counts equal ones
// into "0/5 nodes are available: 3 ..."; numbers go to events and logs. Each is explained in docs/reasons.md.
const (
	// ReasonNoReport: no agent ever reported the node's GPUs.
	ReasonNoReport alloc.Reason = "node(s) had no GPUNode report"
	// ReasonUnreadableReport: what stands in the node's GPUNode cannot be decoded, so that nothing of it is believed.
	ReasonUnreadableReport alloc.Reason = "node(s) had a GPUNode report that could not be read"
	// ReasonStaleReport: the node's agent has not been heard of for longer than staleAfter.
	ReasonStaleReport alloc.Reason = "node(s) had a stale GPUNode report"
	// ReasonDriverUpgrade: the node waits for everybody to let go of its driver.
	ReasonDriverUpgrade alloc.Reason = "node(s) had a driver upgrade under way"
	// ReasonDevicePlugin: the stock device plugin could hand out the same GPUs.
	ReasonDevicePlugin alloc.Reason = "node(s) advertised nvidia.com/gpu without the label berth.dev/device-plugin=shared"
	// ReasonDRA: a driver of dynamic resource allocation could hand out the same GPUs.
	ReasonDRA alloc.Reason = "node(s) had GPUs of a DRA driver without the label berth.dev/dra=shared"
	// ReasonUnknownResourceClaim: a resource claim holds a device of the node, and no slice says which GPU that is.
	ReasonUnknownResourceClaim alloc.Reason = "node(s) had a resource claim that holds a GPU which no ResourceSlice identifies"
	// ReasonUnknownAllocation: a pod of the node was given GPUs, and nobody can tell which.
	ReasonUnknownAllocation alloc.Reason = "node(s) had a pod whose GPU allocation could not be read"
	// ReasonUnreportedDevicePod: a pod of the node was given whole GPUs that the agent has not reported yet.
	ReasonUnreportedDevicePod alloc.Reason = "node(s) had a pod with nvidia.com/gpu whose GPUs are not reported yet"
	// ReasonTooSmall: no option fits the node's GPUs even if they were empty.
	ReasonTooSmall alloc.Reason = "node(s) didn't have GPUs that could ever hold the requested memory"
	// ReasonInsufficientMemory: no option fits what is free now.
	ReasonInsufficientMemory alloc.Reason = "node(s) didn't have enough free GPU memory"
	// ReasonInstances: MIG instances would hold it together, and cannot be used together.
	ReasonInstances alloc.Reason = "node(s) had MIG instances that would hold the request only together"
	// ReasonUnhealthyDevices: only GPUs that are unhealthy or held as a whole are large enough.
	ReasonUnhealthyDevices alloc.Reason = "node(s) didn't have healthy GPUs with enough memory"
	// ReasonResourceClaimedDevices: GPUs are large enough, but that resource claims hold them.
	ReasonResourceClaimedDevices alloc.Reason = "node(s) had no GPU with enough memory that no resource claim holds"
	// ReasonContestedDevices: GPUs are large enough, but that other nodes report them too.
	ReasonContestedDevices alloc.Reason = "node(s) had no GPU with enough memory that no other node reports too"
	// ReasonCordonedDevices: GPUs are large enough, but that they are cordoned.
	ReasonCordonedDevices alloc.Reason = "node(s) had no GPU with enough memory that is not cordoned"
	// ReasonSameWorkload: memory would be free, but replicas of the same workload are on the GPUs.
	ReasonSameWorkload alloc.Reason = "node(s) had a replica of the same workload on the GPUs with enough free memory"
	// ReasonNotAlone: memory would be free, but other pods are on the GPUs.
	ReasonNotAlone alloc.Reason = "node(s) had no GPU with enough memory that no other pod is on"
	// ReasonLoading: memory would be free, but another pod is still loading on the GPUs.
	ReasonLoading alloc.Reason = "node(s) had a pod still loading on the GPUs"
	// ReasonNoRuntimeHandler: the kubelet would refuse to start the pod.
	ReasonNoRuntimeHandler alloc.Reason = "node(s) didn't have the runtime handler of the pod's runtimeClassName"
	// ReasonNoHandOff: the agent found that the pod's runtime handler takes no GPUs from Berth in any form.
	ReasonNoHandOff alloc.Reason = "node(s) had a container runtime that takes no GPUs from Berth; kubectl berth top says what to set"
	// ReasonOnlyUUIDs: the pod refers to bare UUIDs by hand, and the node's runtime takes other names only.
	ReasonOnlyUUIDs alloc.Reason = "node(s) had a container runtime that takes no bare UUIDs, so not berth.dev/gpu-uuids but berth.dev/visible-devices"
	// ReasonLongName: the annotation that an NRI plugin reads has no room for the container's name.
	ReasonLongName alloc.Reason = "node(s) hand GPUs over by NRI, which takes container names of at most 53 characters"
	// ReasonResourceSum: a GPU would do, and the kubelet counts what the node advertises: it would refuse the pod.
	ReasonResourceSum alloc.Reason = "node(s) had too little of the resource berth.dev/gpu-memory left"
	// ReasonHandOffOverride: what an admin wrote on the node cannot be followed.
	ReasonHandOffOverride alloc.Reason = "node(s) had an annotation berth.dev/hand-off that is none of CDI, UUID and NRI"
	// ReasonNoLimitReference: the node limits memory, and the pod would be the one without a limit.
	ReasonNoLimitReference alloc.Reason = "node(s) limit GPU memory, and the container does not refer to berth.dev/gpu-memory-limit"
	// ReasonSharedLimit: each of the pod's containers could take the whole booking.
	ReasonSharedLimit alloc.Reason = "node(s) limit GPU memory by container, and several containers of the pod share its GPUs at once"
	// ReasonLimitsFail: the toolkit would ask the driver, or the node, for what it cannot do.
	ReasonLimitsFail alloc.Reason = "node(s) where a container with a GPU memory limit would not start"
	// ReasonLimitsUnknown: the agent could not look at what decides on that.
	ReasonLimitsUnknown alloc.Reason = "node(s) of which it is not known whether GPU memory limits work"
	// ReasonGPUSharingNotReady: the node's daemons that enforce limits do not work now.
	ReasonGPUSharingNotReady alloc.Reason = "node(s) had a condition gpu-fractioning.nvidia.com/Ready that is not True"
	// ReasonLongSharingName: the annotations that fractiond reads have no room for the container's name.
	ReasonLongSharingName alloc.Reason = "node(s) limit GPU memory by annotations, which take container names of at most 34 characters"
)

// Reasons of a pod that is not tried on any node.
const (
	// ReasonModelUnknown: the size of the pod's model is not known yet.
	ReasonModelUnknown alloc.Reason = "waiting until the size of the model is known"
	// ReasonBindUnknown: it is not known yet whether an earlier binding of the pod took effect.
	ReasonBindUnknown alloc.Reason = "waiting to learn whether an earlier binding took effect"
	// ReasonRecovering: a new leader has not read yet what is booked; what keeps it from that stands behind.
	ReasonRecovering alloc.Reason = "the scheduler is still reading what is booked"
	// ReasonPolicies: with onMissingPolicies StopPlacing, nothing is placed on what others may have forged; which policies and
	// why stands behind.
	ReasonPolicies alloc.Reason = "admission policies of Berth are not known to be in force"
	// ReasonInvalidRequest: the pod's annotations cannot be read.
	ReasonInvalidRequest alloc.Reason = "the GPU memory request is invalid"
	// ReasonClaimsGPU: the pod would get GPUs in two ways.
	ReasonClaimsGPU alloc.Reason = "the pod asks for GPU memory and for a whole GPU, by a resource or a resource claim"
	// ReasonNoReference: a container that gets the GPUs would not be told them.
	ReasonNoReference alloc.Reason = "the container does not take NVIDIA_VISIBLE_DEVICES from berth.dev/visible-devices"
	// ReasonLimitNotGiven: a container with an empty limit would not start where the toolkit reads it.
	ReasonLimitNotGiven alloc.Reason = "the container refers to berth.dev/gpu-memory-limit, which is written with enforcement NVIDIAToolkit only"
	// ReasonNoRuntimeClass: the pod's RuntimeClass was deleted after the pod was made.
	ReasonNoRuntimeClass alloc.Reason = "the RuntimeClass that the pod names does not exist"
	// ReasonGroupEvictsNobody: groups of pods are placed, but make no room.
	ReasonGroupEvictsNobody alloc.Reason = "a pod group with pods that ask for GPU memory evicts nobody"
	// ReasonNothingEverFits: every node has a fresh report and none has GPUs large enough.
	ReasonNothingEverFits alloc.Reason = "no node has GPUs that could ever hold the requested memory"
)
