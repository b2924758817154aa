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

// GPUNodeStatus is what the agent measured.
type GPUNodeStatus struct {
	// DriverVersion is the version of the NVIDIA driver.
	// +optional
	DriverVersion string `json:"driverVersion,omitempty"`
	// Devices are the GPUs, or MIG instances, of the node.
	// +optional
	// +listType=map
	// +listMapKey=uuid
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
	ObservedTime metav1.Time `json:"observedTime,omitzero"`
}

// GPUSummary is the node in one line.
type GPUSummary struct {
	// GPUs is the number of devices.
	GPUs int32 `json:"gpus"`
	// Model is the marketing name, or "mixed".
	// +optional
	Model string `json:"model,omitempty"`
	// Free is the memory that is measured as free, over all healthy devices.
	Free resource.Quantity `json:"free"`
	// LargestFree is the most memory that is measured as free on one healthy device.
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
	Parent string `json:"parent,omitempty"`
	// PCIBusID is the address of the GPU on the PCI bus.
	// +optional
	PCIBusID string `json:"pciBusID,omitempty"`
	// Model is the marketing name.
	// +optional
	Model string `json:"model,omitempty"`
	// ComputeCapability is CUDA's, "9.0".
	// +optional
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
	AssignedTo types.UID `json:"assignedTo,omitempty"`
	// AssignedPods are the UIDs of all pods that hold the device through the kubelet: several where the device plugin
	// shares it (time slicing, MPS), or the pods of a claim (dynamic resource allocation).
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	AssignedPods []types.UID `json:"assignedPods,omitempty"`
	// Health is Healthy or Unhealthy; anything but Healthy gets no pods.
	// +kubebuilder:validation:Enum=Healthy;Unhealthy
	// +kubebuilder:default=Healthy
	// +optional
	Health DeviceHealth `json:"health,omitempty"`
	// Reason is why the device is not healthy.
	// +optional
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
	Links []GPULink `json:"links,omitempty"`
}

// GPUMemory is a device's memory as NVML reports it (nvmlDeviceGetMemoryInfo_v2).
type GPUMemory struct {
	// Total is the physical memory.
	// +optional
	Total resource.Quantity `json:"total,omitzero"`
	// Reserved is what the driver keeps for itself; it is not part of Used here.
	// +optional
	Reserved resource.Quantity `json:"reserved,omitzero"`
	// Used is what is allocated on the device, by whomever.
	// +optional
	Used resource.Quantity `json:"used,omitzero"`
}

// GPUProcess is the memory that the processes of one pod, or of nobody, hold on one device.
type GPUProcess struct {
	// PodUID is the pod that the processes belong to; empty for processes of no known pod.
	// +optional
	PodUID types.UID `json:"podUID,omitempty"`
	// Memory is what they hold together.
	Memory resource.Quantity `json:"memory"`
	// Active is whether they compute now.
	// +optional
	Active bool `json:"active,omitempty"`
	// LastActiveTime is when they were last seen computing, if they do not now. With neither Active nor
	// LastActiveTime, activity is not measured.
	// +optional
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
