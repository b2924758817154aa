// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// What others read, or say, who hold containers to their GPU memory, is in this file and nowhere else; the admission policies
// have the same names, which tests compare. docs/enforcement.md says what was run and what was only read.

// Enforcement is who holds containers to the GPU memory that was booked for them: the scheduler's argument.
type Enforcement string

const (
	// EnforcementNone: nobody. Memory is booked and watched.
	EnforcementNone Enforcement = "None"
	// EnforcementToolkit: the NVIDIA container toolkit (1.20.1 and later) has the driver do it, for each container's cgroup.
	// It reads the container's environment.
	EnforcementToolkit Enforcement = "NVIDIAToolkit"
	// EnforcementGPUSharing: kai-scheduler/kai-gpu-fractioning, whose NRI plugin reads annotations of the pod, and lets
	// containers share a GPU by CUDA MPS.
	EnforcementGPUSharing Enforcement = "NVIDIAGPUSharing"
)

// AnnotationGPUMemoryLimit is what a container may take on each of the pod's GPUs, in MiB, where enforcement is NVIDIAToolkit.
const AnnotationGPUMemoryLimit = GroupName + "/gpu-memory-limit"

// Environment variables that the toolkit's hook apply-cuda-memory-limits reads, in MiB, one for all GPUs of a container. One
// that is empty or no number keeps the container from starting, so only pods that are given a value may have them.
const (
	// EnvGPUMemoryLimit is what the container may take of each GPU: the value of berth.dev/gpu-memory-limit.
	EnvGPUMemoryLimit = "NVIDIA_GPU_MEMORY_LIMIT"
	// EnvGPUMemoryRequest is what the container surely gets of each GPU: the same value.
	EnvGPUMemoryRequest = "NVIDIA_GPU_MEMORY_REQUEST"
)

// GPUMemoryLimitFieldPath is what both variables refer to.
const GPUMemoryLimitFieldPath = "metadata.annotations['" + AnnotationGPUMemoryLimit + "']"

// ConditionGPUFractioning is the condition of a Node by which the operator of kai-gpu-fractioning says that its daemons work
// there (operator/internal/daemonmgr). Its predecessor's, gpu-sharing.nvidia.com/Ready, is not asked for: that one wrote
// NVIDIA_GPU_MEMORY_LIMITS, which the toolkit does not read.
const ConditionGPUFractioning corev1.NodeConditionType = "gpu-fractioning.nvidia.com/Ready"

// Keys of the pod annotations that fractiond reads are gpuSharingPrefix, the container's name, and one of the suffixes
// (fractioning-manager/fractiond/internal/annotations; the prefix is the default of its configuration).
const (
	gpuSharingPrefix  = "nvidia.com/container."
	gpuSharingDevices = ".gpus.devices"
	gpuSharingRequest = ".gpu-memory.request"
	gpuSharingLimit   = ".gpu-memory.limit"
)

// MaxGPUSharingName is how long the name of a container can be in these keys, whose part behind the slash has at most 63
// characters.
const MaxGPUSharingName = 63 - len("container.") - len(gpuSharingRequest)

// AddGPUSharing writes what fractiond reads for a container: its devices, as NVIDIA_VISIBLE_DEVICES has them, and its memory on
// each, a quantity.
func AddGPUSharing(annotations map[string]string, container, devices, memory string) {
	for suffix, value := range map[string]string{gpuSharingDevices: devices, gpuSharingRequest: memory, gpuSharingLimit: memory} {
		annotations[gpuSharingPrefix+container+suffix] = value
	}
}

// RefersToLimit says whether a container takes its limit from the pod's allocation.
func RefersToLimit(c *corev1.Container) bool {
	return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		return e.Name == EnvGPUMemoryLimit && refersTo(&e, GPUMemoryLimitFieldPath)
	})
}

// limitErrors are what the toolkit's hook apply-cuda-memory-limits says, or the dynamic linker of it, when it cannot set a limit
// (toolkit 1.20.1; test/handoff has it fail in each of these ways).
var limitErrors = []string{
	"failed to set memory limits for gpu",
	"setting GPU memory limits is only supported in cgroup v2",
	"failed to parse NVIDIA_GPU_MEMORY_",
	"exceeds memory limit (",
	"nvmlDeviceSetMemoryLimits",
}

// IsLimitFailure says whether what the kubelet says of a container that cannot start is that its memory limit was not set.
func IsLimitFailure(message string) bool {
	return slices.ContainsFunc(limitErrors, func(e string) bool { return strings.Contains(message, e) })
}

// MemoryLimitState is what becomes of a container that is told a limit by its environment.
// +kubebuilder:validation:Enum=Enforced;Ignored;Fails
type MemoryLimitState string

const (
	// MemoryLimitEnforced: the driver is told to hold the container to it.
	MemoryLimitEnforced MemoryLimitState = "Enforced"
	// MemoryLimitIgnored: nobody reads it.
	MemoryLimitIgnored MemoryLimitState = "Ignored"
	// MemoryLimitFails: the container does not start, since the driver or the node cannot do it.
	MemoryLimitFails MemoryLimitState = "Fails"
)

// MemoryLimits is what becomes of NVIDIA_GPU_MEMORY_LIMIT in containers of one runtime handler.
type MemoryLimits struct {
	// state is Enforced, Ignored, or Fails where such a container would not start.
	// +required
	State MemoryLimitState `json:"state"`
	// message says what was found.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}
