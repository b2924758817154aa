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
// +kubebuilder:resource:scope=Cluster,shortName=gn
// +kubebuilder:printcolumn:name="GPUs",type=integer,JSONPath=`.status.summary.gpus`
// +kubebuilder:printcolumn:name="Model",type=string,JSONPath=`.status.summary.model`
// +kubebuilder:printcolumn:name="Free",type=string,JSONPath=`.status.summary.free`
// +kubebuilder:printcolumn:name="Largest-Free",type=string,JSONPath=`.status.summary.largestFree`
// +kubebuilder:printcolumn:name="Unhealthy",type=string,JSONPath=`.status.devices[?(@.health=="Unhealthy")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GPUNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Status is written by the node's agent.
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
	// DriverVersion is the version of the NVIDIA driver.
	// +optional
	// +kubebuilder:validation:MaxLength=96
	DriverVersion string `json:"driverVersion,omitempty"`
	// Devices are the GPUs, or MIG instances, of the node. Whoever writes the list replaces it: one device that
	// somebody else added would outlive him otherwise.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Devices []GPUDevice `json:"devices,omitempty"`
	// HandOff is how the node's container runtimes can be told which GPUs a container gets. Absent: not known, as in
	// the report of an agent that does not look for it.
	// +optional
	HandOff *HandOff `json:"handOff,omitempty"`
	// AssignmentsUnknown says why the agent cannot tell which pods hold devices through the kubelet. Empty: it can.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	AssignmentsUnknown string `json:"assignmentsUnknown,omitempty"`
	// Summary is for people: the columns of kubectl get.
	// +optional
	Summary *GPUSummary `json:"summary,omitempty"`
	// ObservedTime is when the agent, by its own clock, measured this. Nothing is decided by it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=35
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	ObservedTime metav1.Time `json:"observedTime,omitzero"`
}

// GPUSummary is the node in one line.
type GPUSummary struct {
	// GPUs is the number of devices.
	GPUs int32 `json:"gpus"`
	// Model is the marketing name, or "mixed".
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Model string `json:"model,omitempty"`
	// Free is the memory that is measured as free, over all healthy devices.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Free resource.Quantity `json:"free"`
	// LargestFree is the most memory that is measured as free on one healthy device.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	LargestFree resource.Quantity `json:"largestFree"`
}

// GPUDevice is one GPU, or one MIG instance.
type GPUDevice struct {
	// UUID is the device's identity.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=96
	UUID string `json:"uuid"`
	// Index is the driver's number of the device; it can change over a reboot, so it is for display only.
	// +optional
	Index int32 `json:"index"`
	// Parent is the UUID of the GPU that this MIG instance is a part of; empty for a whole GPU.
	// +optional
	// +kubebuilder:validation:MaxLength=96
	Parent string `json:"parent,omitempty"`
	// PCIBusID is the address of the GPU on the PCI bus.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	PCIBusID string `json:"pciBusID,omitempty"`
	// Model is the marketing name.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Model string `json:"model,omitempty"`
	// ComputeCapability is CUDA's, "9.0".
	// +optional
	// +kubebuilder:validation:MaxLength=32
	ComputeCapability string `json:"computeCapability,omitempty"`
	// Memory is what the driver says of the whole device.
	// +optional
	Memory GPUMemory `json:"memory,omitzero"`
	// Processes is who holds the device's memory, one entry per pod, and one for all processes that could not be
	// attributed to a pod.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Processes []GPUProcess `json:"processes,omitempty"`
	// AssignedTo is the UID of the pod that holds the whole device through the kubelet's device manager; the first of
	// AssignedPods, for schedulers that read no list.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	AssignedTo types.UID `json:"assignedTo,omitempty"`
	// AssignedPods are the UIDs of all pods that hold the device through the kubelet: several where the device plugin
	// shares it (time slicing, MPS), or the pods of a claim (dynamic resource allocation).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Type=string
	// +kubebuilder:validation:items:MaxLength=128
	AssignedPods []types.UID `json:"assignedPods,omitempty"`
	// Health is Healthy or Unhealthy; anything but Healthy gets no pods.
	// +kubebuilder:validation:Enum=Healthy;Unhealthy
	// +kubebuilder:default=Healthy
	// +optional
	Health DeviceHealth `json:"health,omitempty"`
	// Reason is why the device is not healthy.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
	// NUMANode is the number of the NUMA node that the GPU is attached to; absent when the system does not say.
	// +optional
	// +kubebuilder:validation:Minimum=0
	NUMANode *int32 `json:"numaNode,omitempty"`
	// PCIeSwitch is the address of the PCIe bridge that the GPU shares with its nearest neighbours; empty when not
	// known.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	PCIeSwitch string `json:"pcieSwitch,omitempty"`
	// Links are fast links (NVLink) to other devices of the node.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Links []GPULink `json:"links,omitempty"`
}

// GPUMemory is a device's memory as NVML reports it (nvmlDeviceGetMemoryInfo_v2).
type GPUMemory struct {
	// Total is the physical memory.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Total resource.Quantity `json:"total,omitzero"`
	// Reserved is what the driver keeps for itself; it is not part of Used here.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Reserved resource.Quantity `json:"reserved,omitzero"`
	// Used is what is allocated on the device, by whomever.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Used resource.Quantity `json:"used,omitzero"`
}

// GPUProcess is the memory that the processes of one pod, or of nobody, hold on one device.
type GPUProcess struct {
	// PodUID is the pod that the processes belong to; empty for processes of no known pod.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=128
	PodUID types.UID `json:"podUID,omitempty"`
	// Memory is what they hold together.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:Pattern=`^[+-]?[0-9]{1,20}(\.[0-9]{0,10})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$`
	Memory resource.Quantity `json:"memory"`
	// Active is whether they compute now.
	// +optional
	Active bool `json:"active,omitempty"`
	// LastActiveTime is when they were last seen computing, if they do not now. With neither Active nor
	// LastActiveTime, activity is not measured.
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
	// Peer is the UUID of the other device.
	// +kubebuilder:validation:MaxLength=96
	Peer string `json:"peer"`
	// Type is NVLink or PCIe.
	// +kubebuilder:validation:Enum=NVLink;PCIe
	Type LinkType `json:"type"`
}

// LinkType is how two devices are connected.
type LinkType string

const (
	LinkNVLink LinkType = "NVLink"
	LinkPCIe   LinkType = "PCIe"
)
