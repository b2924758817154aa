// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "github.com/berth-dev/berth/pkg/model"

// GroupName is the API group, and the prefix of every annotation key.
const GroupName = "berth.dev"

// Request annotations: what the user writes on the pod. See docs/pod-api.md.
const (
	// AnnotationGPUMemory is what the pod needs in all over its GPUs: 30Gi, or 1=30Gi,2=34Gi for each number of GPUs.
	AnnotationGPUMemory = GroupName + "/gpu-memory"
	// AnnotationModel names the model that the pod loads: hf://…, ollama://…, https://…, file:///… or profile://….
	AnnotationModel = GroupName + "/model"
	// AnnotationRuntime is the engine: vllm, sglang, tensorrt-llm, ollama, llama.cpp or custom.
	AnnotationRuntime = GroupName + "/runtime"
	// AnnotationGPUCount is the numbers of GPUs that the pod can run on: 2, 1,2,4 or 2-8.
	AnnotationGPUCount = GroupName + "/gpu-count"
	// AnnotationContextLength is the length of a context in tokens, where memory is estimated from the model.
	AnnotationContextLength = GroupName + "/context-length"
	// AnnotationParallel is the number of sequences at once, where memory is estimated from the model.
	AnnotationParallel = GroupName + "/parallel"
	// AnnotationKVCacheType is the type of the cache's elements, where memory is estimated from the model: q8_0.
	AnnotationKVCacheType = GroupName + "/kv-cache-type"
	// AnnotationIdleAfter is how long the pod must be measured idle until pods of the same priority may evict it.
	AnnotationIdleAfter = GroupName + "/idle-after"
	// AnnotationMinRuntime is how long the pod is protected from eviction after it was first Ready.
	AnnotationMinRuntime = GroupName + "/min-runtime"
	// AnnotationGPUSharing is who may be on the pod's GPUs beside it: any, other-workloads or none.
	AnnotationGPUSharing = GroupName + "/gpu-sharing"
	// AnnotationOnDeviceLost is what becomes of the pod when a GPU of it fails or vanishes, against the scheduler's argument:
	// Ignore or Evict.
	AnnotationOnDeviceLost = GroupName + "/on-device-lost"
	// AnnotationOnOveruse is what becomes of the pod when it holds more than it booked, against the scheduler's argument: Event
	// or Evict.
	AnnotationOnOveruse = GroupName + "/on-overuse"
	// AnnotationContainer names the containers that get the GPUs, with commas between them.
	AnnotationContainer = GroupName + "/container"
)

// AnnotationEvictable says, on a pod of another scheduler and with value "true", that Berth may evict it. It asks for nothing.
const AnnotationEvictable = GroupName + "/evictable"

// Allocation annotations: only the scheduler writes them, in the Binding.
const (
	// AnnotationAllocation is what the pod was given: devices, bytes on each, and what follows from them, as JSON.
	AnnotationAllocation = GroupName + "/allocation"
	// AnnotationGPUUUIDs names the GPUs by their UUIDs, with commas between them.
	AnnotationGPUUUIDs = GroupName + "/gpu-uuids"
	// AnnotationVisibleDevices names the same GPUs in the form that the node's container runtime takes.
	AnnotationVisibleDevices = GroupName + "/visible-devices"
	// AnnotationTensorParallelSize is the number of GPUs.
	AnnotationTensorParallelSize = GroupName + "/tensor-parallel-size"
	// AnnotationGPUMemoryUtilization is the share of each GPU's memory that was booked.
	AnnotationGPUMemoryUtilization = GroupName + "/gpu-memory-utilization"
	// AnnotationTensorSplit is the layers on each GPU, or in which proportion they are split.
	AnnotationTensorSplit = GroupName + "/tensor-split"
	// AnnotationMemFractionStatic is the fraction of what is free that SGLang's weights and cache may take.
	AnnotationMemFractionStatic = GroupName + "/mem-fraction-static"
	// AnnotationFreeGPUMemoryFraction is the fraction of what is free beside the model that TensorRT-LLM's cache may take.
	AnnotationFreeGPUMemoryFraction = GroupName + "/free-gpu-memory-fraction"
)

// Environment variables of the chosen container, fed from the allocation annotations by the downward API.
const (
	// EnvVisibleDevices has the value of berth.dev/visible-devices; in all other containers it is void.
	EnvVisibleDevices = "NVIDIA_VISIBLE_DEVICES"
	// EnvTensorParallelSize has the value of berth.dev/tensor-parallel-size.
	EnvTensorParallelSize = "BERTH_TENSOR_PARALLEL_SIZE"
	// EnvGPUMemoryUtilization has the value of berth.dev/gpu-memory-utilization.
	EnvGPUMemoryUtilization = "BERTH_GPU_MEMORY_UTILIZATION"
	// EnvTensorSplit has the value of berth.dev/tensor-split.
	EnvTensorSplit = "BERTH_TENSOR_SPLIT"
	// EnvMemFractionStatic has the value of berth.dev/mem-fraction-static.
	EnvMemFractionStatic = "BERTH_MEM_FRACTION_STATIC"
	// EnvFreeGPUMemoryFraction has the value of berth.dev/free-gpu-memory-fraction.
	EnvFreeGPUMemoryFraction = "BERTH_FREE_GPU_MEMORY_FRACTION"
)

const (
	// SchedulerName is the profile that pods opt in to.
	SchedulerName = "berth"
	// Namespace is where Berth runs, and where the agents' Leases are.
	Namespace = "berth-system"
	// LabelGPUs says, on a node and with value "true", that it has GPUs and gets an agent; the GPU operator's labels do too.
	LabelGPUs = GroupName + "/gpus"
	// LabelDevicePlugin says, on a node that advertises nvidia.com/gpu and with value "shared" (DevicePluginShared), that
	// Berth may use its GPUs all the same.
	LabelDevicePlugin  = GroupName + "/device-plugin"
	DevicePluginShared = "shared"
	// LabelDRA says, on a node whose GPUs a driver of dynamic resource allocation publishes and with value "shared"
	// (DRAShared), that Berth may use those that no claim holds.
	LabelDRA  = GroupName + "/dra"
	DRAShared = "shared"
	// AnnotationHandOff says, on a node and against whatever its agent found, in which form its container runtimes are told
	// the GPUs: a DeviceForm, CDI, UUID or NRI.
	AnnotationHandOff = GroupName + "/hand-off"
	// AnnotationCordonedGPUs names, on a node, its GPUs that get no new pods, by their UUIDs with commas between them. A GPU
	// that is cut into MIG instances stands for all of them.
	AnnotationCordonedGPUs = GroupName + "/cordoned-gpus"
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
