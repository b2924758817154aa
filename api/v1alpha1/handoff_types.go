// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// HandOff is how the container runtimes of a node can be told which GPUs a container gets.
type HandOff struct {
	// Runtimes are the runtime handlers of the node that GPUs can be handed to, or that were looked at and cannot take
	// any. A handler that is not listed was not looked at.
	// +optional
	// +listType=map
	// +listMapKey=handler
	// +kubebuilder:validation:MaxItems=16
	Runtimes []RuntimeHandOff `json:"runtimes,omitempty"`
}

// RuntimeHandOff is what one runtime handler takes.
type RuntimeHandOff struct {
	// Handler is the name that a RuntimeClass refers to; empty for the node's default runtime.
	// +kubebuilder:validation:MaxLength=63
	Handler string `json:"handler"`
	// Accepts are the forms that it takes, the preferred one first; none when it takes no GPUs from Berth.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=4
	Accepts []DeviceForm `json:"accepts,omitempty"`
	// Mode is what was found, for people: "auto", "cdi", "jit-cdi", "legacy", "hook", "nri".
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Mode string `json:"mode,omitempty"`
	// Message says what was read, or what has to be set for the handler to take GPUs.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// DeviceForm is a way to name the GPUs of a container to its runtime.
// +kubebuilder:validation:Enum=CDI;UUID;NRI
type DeviceForm string

const (
	// DeviceFormCDI names each GPU by a qualified CDI name, runtime.nvidia.com/gpu=GPU-…, in NVIDIA_VISIBLE_DEVICES.
	DeviceFormCDI DeviceForm = "CDI"
	// DeviceFormUUID names each GPU by its UUID in NVIDIA_VISIBLE_DEVICES.
	DeviceFormUUID DeviceForm = "UUID"
	// DeviceFormNRI names each GPU by a qualified CDI name in a pod annotation that an NRI plugin reads.
	DeviceFormNRI DeviceForm = "NRI"
)

const (
	// CDIKindRuntime is the kind of the qualified names that NVIDIA's container runtime resolves by itself, without a CDI
	// specification on the node: runtime.nvidia.com/gpu=GPU-…
	CDIKindRuntime = "runtime.nvidia.com/gpu"
	// CDIKind is the kind of the CDI specification that the agent writes on nodes where GPUs are handed over by NRI:
	// berth.dev/gpu=GPU-…
	CDIKind = GroupName + "/gpu"
	// NRIAnnotationPrefix, and a container's name behind it, is the pod annotation from which the NRI plugin of NVIDIA's
	// container toolkit (1.20) takes the container's devices: qualified names with commas between them.
	NRIAnnotationPrefix = "nvidia.cdi.k8s.io/container."
)
