// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podcases

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const defaultContainer = "kubectl.kubernetes.io/default-container"

func keyCases() []Case {
	unknown := func(key, refused string) Case {
		return Case{Name: "unknown key " + key, Pod: gpuPod("gpu-memory", "30Gi", key, "1"), Refused: refused}
	}
	alone := func(key, value string) Case {
		return Case{Name: key + " without memory or model", Pod: gpuPod(key, value), Refused: "berth.dev/gpu-memory"}
	}
	return []Case{
		unknown("gpu-memroy", "did you mean berth.dev/gpu-memory?"),
		unknown("gpumemory", "did you mean berth.dev/gpu-memory?"),
		unknown("gpu_count", "did you mean berth.dev/gpu-count?"),
		unknown("gpu-counts", "did you mean berth.dev/gpu-count?"),
		unknown("GPU-count", "did you mean berth.dev/gpu-count?"),
		unknown("idleafter", "did you mean berth.dev/idle-after?"),
		unknown("kv-cache", "did you mean berth.dev/kv-cache-type?"),
		unknown("context", "did you mean berth.dev/context-length?"),
		unknown("xyz", "the keys are berth.dev/gpu-memory, berth.dev/model"),
		{
			Name: "a misspelt key alone, of this scheduler", Pod: gpuPod("gpu-memroy", "30Gi"),
			Refused: "did you mean berth.dev/gpu-memory?",
		},
		{
			Name: "a misspelt key alone, of another scheduler", Refused: "did you mean berth.dev/gpu-memory?",
			Pod: with(gpuPod("gpu-memroy", "30Gi"), scheduler(corev1.DefaultSchedulerName)),
		},
		{
			Name: "capitals in the prefix", Refused: "did you mean berth.dev/gpu-memory?",
			Pod: with(gpuPod(), annotation("BERTH.dev/gpu-memory", "30Gi")),
		},
		{
			Name: "capitals in the prefix beside a request", Refused: "unknown annotation, did you mean berth.dev/gpu-memory?",
			Pod: with(gpuPod("gpu-memory", "30Gi"), annotation("Berth.Dev/gpu-uuids", "GPU-0")),
		},
		{
			Name: "capitals in the prefix, of another scheduler", Refused: "did you mean berth.dev/gpu-memory?",
			Pod: with(gpuPod(), scheduler(corev1.DefaultSchedulerName), annotation("BERTH.dev/GPU-memory", "30Gi")),
		},
		{
			Name: "a request written as a label", Pod: with(gpuPod(), label("berth.dev/gpu-memory", "30Gi")),
			Refused: "an annotation, not a label",
		},
		alone("gpu-count", "2"),
		alone("runtime", "vllm"),
		alone("idle-after", "10m"),
		alone("min-runtime", "10m"),
		alone("context-length", "8192"),
		alone("parallel", "4"),
		alone("kv-cache-type", "q8_0"),
		alone("container", "server"),
	}
}

func podCases() []Case {
	wholeGPU := func(name corev1.ResourceName) Case {
		return Case{
			Name: "memory beside " + string(name), Pod: with(gpuPod("gpu-memory", "30Gi"), limit(name)),
			Refused: "not for both",
		}
	}
	initGPU := corev1.Container{Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{berthv1alpha1.ResourceNVIDIAGPU: resource.MustParse("1")},
	}}
	noGPU := corev1.Container{Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{berthv1alpha1.ResourceNVIDIAGPU: resource.MustParse("0")},
	}}
	return []Case{
		{Name: "a pod of another scheduler without annotations", Pod: plainPod()},
		{Name: "a pod of this scheduler without annotations", Pod: gpuPod()},
		{
			Name: "a pod of this scheduler that asks for whole GPUs only",
			Pod:  with(gpuPod(), limit(berthv1alpha1.ResourceNVIDIAGPU)),
		},
		{
			Name: "a pod of another scheduler that may be evicted",
			Pod:  with(gpuPod("evictable", "true"), scheduler(corev1.DefaultSchedulerName)),
		},
		{
			Name: "a request on a pod of the default scheduler", Refused: "schedulerName: berth",
			Pod: with(gpuPod("gpu-memory", "30Gi"), scheduler(corev1.DefaultSchedulerName)),
		},
		{
			Name: "a request on a pod of a scheduler of another case", Refused: "schedulerName: berth",
			Pod: with(gpuPod("gpu-memory", "30Gi"), scheduler("Berth")),
		},
		{
			Name: "a request on a pod that is on a node already", Refused: "spec.nodeName", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi"), func(pod *corev1.Pod) { pod.Spec.NodeName = "node" }),
		},
		wholeGPU(berthv1alpha1.ResourceNVIDIAGPU),
		wholeGPU("nvidia.com/gpu.shared"),
		wholeGPU("nvidia.com/mig-1g.5gb"),
		wholeGPU("nvidia.com/a100-small"),
		wholeGPU("deviceclass.resource.kubernetes.io/mig.nvidia.com"),
		{
			Name: "memory beside no whole GPUs", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), limitTo(berthv1alpha1.ResourceNVIDIAGPU, "0")),
		},
		{
			Name: "a container that asks for no whole GPUs", Pod: with(gpuPod(), limitTo(berthv1alpha1.ResourceNVIDIAGPU, "0")),
		},
		{
			Name: "an init container that asks for no whole GPUs", Pod: with(gpuPod(), initContainer(noGPU)),
		},
		{
			Name: "an init container that asks for a whole GPU", Pod: with(gpuPod(), initContainer(initGPU)),
		},
		{
			Name: "a container that asks for some other device of NVIDIA's", Pod: with(gpuPod(), limit("nvidia.com/hostdev")),
		},
		{
			Name: "a container that asks for a whole GPU of another name", Pod: with(gpuPod(), limit("nvidia.com/a100")),
		},
		{
			Name: "memory beside a NIC of NVIDIA's", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), limit("nvidia.com/hostdev")),
		},
		{
			Name: "memory beside a VM's device of NVIDIA's", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), limit("nvidia.com/GA102GL_A10")),
		},
		{
			Name: "memory beside a whole GPU of an init container", Refused: "not for both",
			Pod: with(gpuPod("gpu-memory", "30Gi"), initContainer(initGPU)),
		},
		{
			Name: "memory beside another resource", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), limit("example.test/nic")),
		},
	}
}

func containerCases() []Case {
	named := func(names ...string) *berthv1alpha1.PodRequest {
		return setting(func(r *berthv1alpha1.PodRequest) { r.Containers = names })
	}
	ordinary := initContainer(corev1.Container{})
	sidecar := initContainer(corev1.Container{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)})
	refers := corev1.Container{Env: []corev1.EnvVar{reference()}}
	refersAlways := corev1.Container{Env: []corev1.EnvVar{reference()}, RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}
	return []Case{
		{
			Name: "one container and an init container", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), initContainer(corev1.Container{})),
		},
		{
			Name: "two containers, none named", Refused: "server, sidecar",
			Pod: with(gpuPod("gpu-memory", "30Gi"), container("sidecar")),
		},
		{
			Name: "two containers, one named", Want: named("server"),
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server"), container("sidecar")),
		},
		{
			// What envFrom brings is overridden only where the container is told that it gets no GPU.
			Name: "a sidecar that asks for none of a resource that nobody knows, and has variables from elsewhere", Want: named("server"),
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server"), container("sidecar"), func(pod *corev1.Pod) {
				sidecar := &pod.Spec.Containers[1]
				sidecar.Resources.Limits = corev1.ResourceList{"nvidia.com/foo": resource.MustParse("0")}
				sidecar.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: "all"},
				}}}
			}),
		},
		{
			Name: "two containers, kubectl's default named", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), container("sidecar"), annotation(defaultContainer, "sidecar")),
		},
		{
			Name: "two containers, kubectl's default is none of them", Refused: "server, sidecar",
			Pod: with(gpuPod("gpu-memory", "30Gi"), container("sidecar"), annotation(defaultContainer, "other")),
		},
		{
			Name: "two containers, the second has the reference", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), container("sidecar"), env(1, reference())),
		},
		{
			Name: "the container with the reference is not the one that is named", Refused: "container \"sidecar\"",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server"), container("sidecar"), env(1, reference())),
		},
		{
			Name: "a container that does not exist", Refused: "server",
			Pod: gpuPod("gpu-memory", "30Gi", "container", "sever"),
		},
		{
			Name: "a container name that is empty", Refused: "server",
			Pod: gpuPod("gpu-memory", "30Gi", "container", ""),
		},
		{
			Name: "only an init container named, which does not stay", Refused: "begin with one of server",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "init"), ordinary),
		},
		{
			Name: "an init container named first", Refused: "begin with one of server",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "init,server"), ordinary),
		},
		{
			Name: "an init container named behind the server", Want: named("server", "init"),
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server,init"), ordinary),
		},
		{
			Name: "two containers named", Want: named("server", "sidecar"),
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server,sidecar"), container("sidecar")),
		},
		{
			Name: "a native sidecar named", Want: named("init"),
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "init"), sidecar),
		},
		{
			Name: "a native sidecar that is not named", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), sidecar),
		},
		{
			Name: "a native sidecar with the reference", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), initContainer(refersAlways)),
		},
		{
			Name: "an init container with the reference that is not named", Refused: "init containers can get GPUs when named in berth.dev/container",
			Pod: with(gpuPod("gpu-memory", "30Gi"), initContainer(refers)),
		},
		{
			Name: "an init container with the reference behind a container that is named", Refused: "init containers can get GPUs when named in berth.dev/container",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server"), initContainer(refers)),
		},
		{
			Name: "an init container with the reference that is named", Want: named("server", "init"),
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server,init"), initContainer(refers), env(0, reference())),
		},
		{
			Name: "two containers with the reference, none named", Refused: "berth.dev/container: server,sidecar",
			Pod: with(gpuPod("gpu-memory", "30Gi"), container("sidecar"), env(0, reference()), env(1, reference())),
		},
		{
			Name: "two containers with the reference, one named", Refused: "container \"sidecar\" refers to the GPUs and is not named: write server,sidecar",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server"), container("sidecar"), env(0, reference()), env(1, reference())),
		},
		{
			Name: "two containers with the reference, both named", Want: named("server", "sidecar"),
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server,sidecar"), container("sidecar"), env(0, reference()), env(1, reference())),
		},
		{
			Name: "one of two names does not exist", Refused: "server, sidecar",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server,convert"), container("sidecar")),
		},
		{
			Name: "a space behind the comma", Refused: "with commas between them",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server, sidecar"), container("sidecar")),
		},
		{
			Name: "a comma at the end", Refused: "with commas between them",
			Pod: gpuPod("gpu-memory", "30Gi", "container", "server,"),
		},
		{
			Name: "a container named twice", Refused: "named twice",
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server,server"), container("sidecar")),
		},
		{
			Name: "a container named very often", Refused: "named twice",
			Pod: gpuPod("gpu-memory", "30Gi", "container", strings.Repeat("server,", 5000)+"server"),
		},
	}
}

func envCases() []Case {
	own := func(name, value string) Case {
		return Case{
			Name: "own " + name + "=" + value, Refused: name, AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, corev1.EnvVar{Name: name, Value: value})),
		}
	}
	all := corev1.EnvVar{Name: berthv1alpha1.EnvVisibleDevices, Value: "all"}
	uuids := fieldEnv(berthv1alpha1.EnvVisibleDevices, berthv1alpha1.AnnotationGPUUUIDs)
	other := reference()
	other.ValueFrom.FieldRef.FieldPath = "metadata.annotations['example.test/uuids']"
	return []Case{
		own("NVIDIA_VISIBLE_DEVICES", "all"),
		own("NVIDIA_VISIBLE_DEVICES", "0"),
		own("NVIDIA_VISIBLE_DEVICES", ""),
		own("NVIDIA_VISIBLE_DEVICES", "void"),
		own("NVIDIA_VISIBLE_DEVICES", "GPU-7c1f0b9e-1111-2222-3333-444455556666"),
		own("CUDA_VISIBLE_DEVICES", "0"),
		own("CUDA_VISIBLE_DEVICES", ""),
		own("CUDA_DEVICE_ORDER", "FASTEST_FIRST"),
		own("BERTH_TENSOR_PARALLEL_SIZE", "2"),
		own("BERTH_GPU_MEMORY_UTILIZATION", "0.9"),
		own("BERTH_MEM_FRACTION_STATIC", "0.8"),
		own("BERTH_FREE_GPU_MEMORY_FRACTION", "0.8"),
		{
			Name: "own NVIDIA_VISIBLE_DEVICES from another field", Refused: "NVIDIA_VISIBLE_DEVICES", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, other)),
		},
		{
			Name: "the reference, and after it all GPUs", Refused: "NVIDIA_VISIBLE_DEVICES", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, reference(), all)),
		},
		{
			Name: "all GPUs in another container", Refused: "NVIDIA_VISIBLE_DEVICES", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server"), container("sidecar"), env(1, all)),
		},
		{
			Name: "all GPUs in an init container", Refused: "NVIDIA_VISIBLE_DEVICES", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi"), initContainer(corev1.Container{Env: []corev1.EnvVar{all}})),
		},
		{
			Name: "all GPUs in a pod of this scheduler without a request", Refused: "NVIDIA_VISIBLE_DEVICES",
			AdmissionOnly: true, Pod: with(gpuPod(), env(0, all)),
		},
		{
			Name: "all GPUs in a pod of another scheduler", Pod: with(plainPod(), env(0, all)),
		},
		{
			Name: "no GPU, said by a pod of this scheduler without a request",
			Pod:  with(gpuPod(), env(0, corev1.EnvVar{Name: "NVIDIA_VISIBLE_DEVICES", Value: "void"})),
		},
		{
			Name: "the reference by hand", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, reference())),
		},
		{
			Name: "the reference to bare UUIDs by hand", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, uuids)),
		},
		{
			Name: "the reference to bare UUIDs in an init container that is not named", Refused: "when named in berth.dev/container",
			Pod: with(gpuPod("gpu-memory", "30Gi"), initContainer(corev1.Container{Env: []corev1.EnvVar{uuids}})),
		},
		{
			Name: "void in a container that is named", Refused: "NVIDIA_VISIBLE_DEVICES", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server,sidecar"), container("sidecar"),
				env(1, corev1.EnvVar{Name: berthv1alpha1.EnvVisibleDevices, Value: "void"})),
		},
		{
			Name: "all lines by hand", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, reference(),
				fieldEnv(berthv1alpha1.EnvTensorParallelSize, berthv1alpha1.AnnotationTensorParallelSize),
				fieldEnv(berthv1alpha1.EnvGPUMemoryUtilization, berthv1alpha1.AnnotationGPUMemoryUtilization),
				fieldEnv(berthv1alpha1.EnvTensorSplit, berthv1alpha1.AnnotationTensorSplit),
				fieldEnv(berthv1alpha1.EnvMemFractionStatic, berthv1alpha1.AnnotationMemFractionStatic),
				fieldEnv(berthv1alpha1.EnvFreeGPUMemoryFraction, berthv1alpha1.AnnotationFreeGPUMemoryFraction),
				corev1.EnvVar{Name: "CUDA_DEVICE_ORDER", Value: "PCI_BUS_ID"})),
		},
		{
			Name: "a memory limit of its own", Refused: "a container sets NVIDIA_GPU_MEMORY_LIMIT", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, corev1.EnvVar{Name: berthv1alpha1.EnvGPUMemoryLimit, Value: "81920"})),
		},
		{
			Name: "a guarantee of its own, in a container without GPUs", Refused: "a container sets NVIDIA_GPU_MEMORY_REQUEST", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi", "container", "server"), container("sidecar"),
				env(1, corev1.EnvVar{Name: berthv1alpha1.EnvGPUMemoryRequest, Value: "81920"})),
		},
		{
			Name: "the memory limit from another annotation", Refused: "a container sets NVIDIA_GPU_MEMORY_LIMIT", AdmissionOnly: true,
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, fieldEnv(berthv1alpha1.EnvGPUMemoryLimit, "example.test/limit"))),
		},
		{
			Name: "the memory limit of the booking, by hand", Want: total(30 * gi),
			Pod: with(gpuPod("gpu-memory", "30Gi"), env(0, reference(),
				fieldEnv(berthv1alpha1.EnvGPUMemoryRequest, berthv1alpha1.AnnotationGPUMemoryLimit),
				fieldEnv(berthv1alpha1.EnvGPUMemoryLimit, berthv1alpha1.AnnotationGPUMemoryLimit))),
		},
		{
			Name: "nothing for the sidecar, by hand", Pod: with(gpuPod("gpu-memory", "30Gi"), container("sidecar"),
				env(0, reference()), env(1, corev1.EnvVar{Name: "NVIDIA_VISIBLE_DEVICES", Value: "void"})),
			Want: total(30 * gi),
		},
	}
}
