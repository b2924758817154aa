// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "github.com/berth-dev/berth/pkg/model"

// GroupName is the API group, and the prefix of every annotation key.
const GroupName = "berth.dev"

// Request annotations: what the user writes on the pod. See docs/pod-api.md.
const (
	AnnotationGPUMemory     = GroupName + "/gpu-memory"
	AnnotationModel         = GroupName + "/model"
	AnnotationRuntime       = GroupName + "/runtime"
	AnnotationGPUCount      = GroupName + "/gpu-count"
	AnnotationContextLength = GroupName + "/context-length"
	AnnotationParallel      = GroupName + "/parallel"
	AnnotationKVCacheType   = GroupName + "/kv-cache-type"
	AnnotationIdleAfter     = GroupName + "/idle-after"
	AnnotationMinRuntime    = GroupName + "/min-runtime"
	AnnotationContainer     = GroupName + "/container"
)

// AnnotationEvictable on a pod of another scheduler, with value "true", says that Berth may evict it. It asks for nothing.
const AnnotationEvictable = GroupName + "/evictable"

// Allocation annotations: only the scheduler writes them, in the Binding.
const (
	AnnotationAllocation = GroupName + "/allocation"
	AnnotationGPUUUIDs   = GroupName + "/gpu-uuids"
	// AnnotationVisibleDevices names the same GPUs in the form that the node's container runtime takes.
	AnnotationVisibleDevices       = GroupName + "/visible-devices"
	AnnotationTensorParallelSize   = GroupName + "/tensor-parallel-size"
	AnnotationGPUMemoryUtilization = GroupName + "/gpu-memory-utilization"
	AnnotationTensorSplit          = GroupName + "/tensor-split"
	// Fractions of what is free, for engines that take one: SGLang's weights and cache, TensorRT-LLM's cache.
	AnnotationMemFractionStatic     = GroupName + "/mem-fraction-static"
	AnnotationFreeGPUMemoryFraction = GroupName + "/free-gpu-memory-fraction"
)

// Environment variables of the chosen container, fed from the allocation annotations by the downward API.
const (
	EnvVisibleDevices       = "NVIDIA_VISIBLE_DEVICES"
	EnvTensorParallelSize   = "BERTH_TENSOR_PARALLEL_SIZE"
	EnvGPUMemoryUtilization = "BERTH_GPU_MEMORY_UTILIZATION"
	EnvTensorSplit          = "BERTH_TENSOR_SPLIT"

	EnvMemFractionStatic     = "BERTH_MEM_FRACTION_STATIC"
	EnvFreeGPUMemoryFraction = "BERTH_FREE_GPU_MEMORY_FRACTION"
)

const (
	// SchedulerName is the profile that pods opt in to.
	SchedulerName = "berth"
	// Namespace is where Berth runs, and where the agents' Leases are.
	Namespace = "berth-system"
	// LabelDevicePlugin on a node that advertises nvidia.com/gpu says, with value DevicePluginShared, that Berth
	// may use its GPUs all the same.
	LabelDevicePlugin  = GroupName + "/device-plugin"
	DevicePluginShared = "shared"
	// LabelDRA on a node whose GPUs a driver of dynamic resource allocation publishes says, with value DRAShared, that
	// Berth may use those that no claim holds.
	LabelDRA  = GroupName + "/dra"
	DRAShared = "shared"
	// AnnotationHandOff on a node says, against whatever its agent found, in which form its container runtimes are told
	// the GPUs: a DeviceForm.
	AnnotationHandOff = GroupName + "/hand-off"
	// ResourceNVIDIAGPU is the extended resource of the stock device plugin.
	ResourceNVIDIAGPU = "nvidia.com/gpu"
)

// Runtime is the inference engine of a pod.
type Runtime = model.Runtime

const (
	RuntimeCustom   = model.RuntimeCustom
	RuntimeVLLM     = model.RuntimeVLLM
	RuntimeOllama   = model.RuntimeOllama
	RuntimeLlamaCpp = model.RuntimeLlamaCpp
	RuntimeSGLang   = model.RuntimeSGLang
	RuntimeTensorRT = model.RuntimeTensorRT
)

// LabelAllocated is "false" on a pod that asks for GPU memory and waits, "true" once it is bound: the scheduler's
// Binding carries it. It lets the apiserver find the pods that nobody else may bind.
const LabelAllocated = GroupName + "/allocated"
