// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// GPUNode is the report of one node's agent: its GPUs and what is really in their memory. It is named after its
// Node and has nothing but a status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=gn,categories=berth
// +kubebuilder:printcolumn:name="GPUs",type=integer,JSONPath=`.status.summary.gpus`
// +kubebuilder:printcolumn:name="Model",type=string,JSONPath=`.status.summary.model`
// +kubebuilder:printcolumn:name="Free",type=string,JSONPath=`.status.summary.free`
// +kubebuilder:printcolumn:name="Largest-Free",type=string,JSONPath=`.status.summary.largestFree`
// +kubebuilder:printcolumn:name="Unhealthy",type=string,JSONPath=`.status.devices[?(@.health=="Unhealthy")].reason`
// +kubebuilder:printcolumn:name="Driver",type=string,JSONPath=`.status.driverVersion`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GPUNode struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is written by the node's agent.
	// +optional
	Status GPUNodeStatus `json:"status,omitzero"`
}

// GPUNodeList is a list of GPUNodes.
//
// +kubebuilder:object:root=true
type GPUNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GPUNode `json:"items"`
}

// GPUNodeStatus is what the agent measured. The patterns of quantities and times are parts of what Go decodes, and
// decodes fast, so that the apiserver refuses what no reader of the report could read.
type GPUNodeStatus struct {
	// driverVersion is the version of the NVIDIA driver: "580.159.04".
	// +optional
	// +kubebuilder:validation:MaxLength=96
	DriverVersion string `json:"driverVersion,omitempty"`
	// devices are the GPUs, and MIG instances, of the node. Whoever writes the list replaces it: one device that
	// somebody else added would outlive its writer otherwise.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Devices []GPUDevice `json:"devices,omitempty"`
	// handOff is how the node's container runtimes can be told which GPUs a container gets. Absent: not known, as in
	// the report of an agent that does not look for it.
	// +optional
	HandOff *HandOff `json:"handOff,omitempty"`
	// assignmentsUnknown says why the agent cannot tell which pods hold devices through the kubelet. Empty: it can.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	AssignmentsUnknown string `json:"assignmentsUnknown,omitempty"`
	// summary is for people: the columns of kubectl get.
	// +optional
	Summary *GPUSummary `json:"summary,omitempty"`
	// observedTime is when the agent, by its own clock, measured this. Nothing is decided by it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=35
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	ObservedTime metav1.Time `json:"observedTime,omitzero"`
}

// GPUSummary is the node in one line.
type GPUSummary struct {
	// gpus is the number of devices, MIG instances included.
	// +required
	GPUs int32 `json:"gpus"`
	// model is the marketing name that all devices have, or "mixed".
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Model string `json:"model,omitempty"`
	// free is the memory, in bytes, that is measured as free over all healthy devices.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Free resource.Quantity `json:"free"`
	// largestFree is the most memory, in bytes, that is measured as free on one healthy device.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	LargestFree resource.Quantity `json:"largestFree"`
}

// GPUDevice is one GPU, or one MIG instance.
type GPUDevice struct {
	// uuid is the device's identity, which stays the same over reboots: "GPU-4b1d…", "MIG-…".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=96
	UUID string `json:"uuid"`
	// index is the driver's number of the device; it can change over a reboot, so it is for display only.
	// +optional
	Index int32 `json:"index"`
	// parent is the UUID of the GPU that this MIG instance is a part of; empty for a whole GPU.
	// +optional
	// +kubebuilder:validation:MaxLength=96
	Parent string `json:"parent,omitempty"`
	// pciBusID is the address of the GPU on the PCI bus: "00000000:07:00.0".
	// +optional
	// +kubebuilder:validation:MaxLength=64
	PCIBusID string `json:"pciBusID,omitempty"`
	// model is the marketing name: "NVIDIA H100 80GB HBM3".
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Model string `json:"model,omitempty"`
	// computeCapability is CUDA's number for what the device can do: "9.0".
	// +optional
	// +kubebuilder:validation:MaxLength=32
	ComputeCapability string `json:"computeCapability,omitempty"`
	// memory is the memory of the whole device as the driver measures it.
	// +optional
	Memory GPUMemory `json:"memory,omitzero"`
	// processes is who holds the device's memory, one entry per pod, and one for all processes that could not be
	// attributed to a pod.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Processes []GPUProcess `json:"processes,omitempty"`
	// assignedTo is the UID of the pod that holds the whole device through the kubelet's device manager; the first of
	// assignedPods, for schedulers that read no list.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	AssignedTo types.UID `json:"assignedTo,omitempty"`
	// assignedPods are the UIDs of all pods that hold the device through the kubelet: several where the device plugin
	// shares it (time slicing, MPS), or the pods of a claim (dynamic resource allocation).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Type=string
	// +kubebuilder:validation:items:MaxLength=128
	AssignedPods []types.UID `json:"assignedPods,omitempty"`
	// health is whether the device can be given to pods: Healthy or Unhealthy. Readers must take a value that they do not
	// know for Unhealthy.
	// +kubebuilder:validation:Enum=Healthy;Unhealthy
	// +kubebuilder:default=Healthy
	// +optional
	Health DeviceHealth `json:"health,omitempty"`
	// reason is why the device is not healthy, in one word that programs can compare: "DeviceLost", "Xid79".
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
	// numaNode is the number of the NUMA node that the GPU is attached to; absent when the system does not say.
	// +optional
	// +kubebuilder:validation:Minimum=0
	NUMANode *int32 `json:"numaNode,omitempty"`
	// pcieSwitch is the address of the PCIe bridge that the GPU shares with its nearest neighbours; empty when not
	// known.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	PCIeSwitch string `json:"pcieSwitch,omitempty"`
	// links are fast links (NVLink) to other devices of the node.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Links []GPULink `json:"links,omitempty"`
}

// GPUMemory is a device's memory as NVML reports it (nvmlDeviceGetMemoryInfo_v2).
type GPUMemory struct {
	// total is the physical memory, in bytes.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Total resource.Quantity `json:"total,omitzero"`
	// reserved is the bytes that the driver keeps for itself; they are not part of used.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Reserved resource.Quantity `json:"reserved,omitzero"`
	// used is the bytes that are allocated on the device, by whomever. What is free is total - reserved - used.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Used resource.Quantity `json:"used,omitzero"`
}

// GPUProcess is the memory that the processes of one pod, or of nobody, hold on one device.
type GPUProcess struct {
	// podUID is the UID of the pod that the processes belong to; empty for processes of no known pod.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	PodUID types.UID `json:"podUID,omitempty"`
	// memory is the bytes that they hold together.
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Memory resource.Quantity `json:"memory"`
	// active is whether they compute now.
	// +optional
	Active bool `json:"active,omitempty"`
	// lastActiveTime is when they were last seen computing, if they do not now. With neither active nor
	// lastActiveTime, activity is not measured.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=35
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	LastActiveTime *metav1.Time `json:"lastActiveTime,omitempty"`
}

// DeviceHealth is whether a device can be given to pods.
type DeviceHealth string

const (
	DeviceHealthy   DeviceHealth = "Healthy"
	DeviceUnhealthy DeviceHealth = "Unhealthy"
)

// Reasons of an unhealthy device that the agent gives.
const (
	// DeviceReasonMemoryNotSupported: the driver cannot say how much memory the device has (unified memory).
	DeviceReasonMemoryNotSupported = "MemoryNotSupported"
	// DeviceReasonMIGParent: the GPU is cut into MIG instances, which are devices of their own.
	DeviceReasonMIGParent = "MIGEnabled"
)

// GPULink is a fast link between two devices.
type GPULink struct {
	// peer is the UUID of the other device.
	// +required
	// +kubebuilder:validation:MaxLength=96
	Peer string `json:"peer"`
	// type is how the two are connected: NVLink or PCIe. Readers must take a value that they do not know for no link.
	// +required
	// +kubebuilder:validation:Enum=NVLink;PCIe
	Type LinkType `json:"type"`
}

// LinkType is how two devices are connected.
type LinkType string

const (
	LinkNVLink LinkType = "NVLink"
	LinkPCIe   LinkType = "PCIe"
)
