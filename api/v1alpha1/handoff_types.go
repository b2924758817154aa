// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// HandOff is how the container runtimes of a node can be told which GPUs a container gets.
type HandOff struct {
	// runtimes are the runtime handlers of the node that GPUs can be handed to, or that were looked at and cannot take
	// any. A handler that is not listed was not looked at.
	// +optional
	// +listType=map
	// +listMapKey=handler
	// +kubebuilder:validation:MaxItems=16
	Runtimes []RuntimeHandOff `json:"runtimes,omitempty"`
	// changedTime is when the newest of the files changed by which the agent knows this: what a container showed that was
	// started before says nothing of them.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=35
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	ChangedTime *metav1.Time `json:"changedTime,omitempty"`
	// notInjected are the pods that run without anything of the agent's CDI specification, GPU pods or not, on nodes where
	// an NRI plugin hands GPUs over. A pod whose processes the agent could not look at is not one of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Type=string
	// +kubebuilder:validation:items:MaxLength=128
	NotInjected []types.UID `json:"notInjected,omitempty"`
	// shown is what pods of the node have shown, which counts more than runtimes. The controller writes it, not the agent.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=48
	Shown []ShownForm `json:"shown,omitempty"`
}

// ShownForm is what a pod has shown of one way to name GPUs to one runtime handler.
type ShownForm struct {
	// handler is the runtime handler; empty for the node's default runtime.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Handler string `json:"handler"`
	// form is the form in which the pod's GPUs were named.
	// +required
	Form DeviceForm `json:"form"`
	// works says that the pod used its GPUs; else its container could not start, because they were not understood.
	// +required
	Works bool `json:"works"`
	// message says which pod it was, and what the kubelet said of it.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// filesTime is the changedTime of the files that it is about: with other files nothing of it is known.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=35
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	FilesTime *metav1.Time `json:"filesTime,omitempty"`
	// seenTime is when it was last seen, by the controller's clock.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=35
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	SeenTime metav1.Time `json:"seenTime"`
}

// RuntimeHandOff is what one runtime handler takes.
type RuntimeHandOff struct {
	// handler is the name that a RuntimeClass refers to; empty for the node's default runtime.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Handler string `json:"handler"`
	// accepts are the forms that it takes, the preferred one first; none when it takes no GPUs from Berth.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=4
	Accepts []DeviceForm `json:"accepts,omitempty"`
	// mode is what was found, for people: "auto", "cdi", "jit-cdi", "legacy", "hook", "nri".
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Mode string `json:"mode,omitempty"`
	// message says what was read, or what has to be set for the handler to take GPUs.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// memoryLimits is what becomes of a memory limit that a container is told; absent when it is not known.
	// +optional
	MemoryLimits *MemoryLimits `json:"memoryLimits,omitempty"`
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
