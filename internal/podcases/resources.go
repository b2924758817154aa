// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podcases

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// asks makes container i ask for GPU memory by the resource.
func asks(i int, quantity string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers[i].Resources = gpuMemory(quantity) }
}

func gpuMemory(quantity string) corev1.ResourceRequirements {
	list := corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse(quantity)}
	return corev1.ResourceRequirements{Limits: list, Requests: list.DeepCopy()}
}

func resourceCases() []Case {
	byInit := corev1.Container{Resources: gpuMemory("30Gi")}
	bySidecar := corev1.Container{Resources: gpuMemory("30Gi"), RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}
	ofServer := setting(func(r *berthv1alpha1.PodRequest) { r.Containers = []string{"server"} })
	return []Case{
		{Name: "a resource alone", Pod: with(gpuPod(), asks(0, "30Gi")), Want: total(30 * gi)},
		{Name: "a resource in bytes", Pod: with(gpuPod(), asks(0, "32212254720")), Want: total(30 * gi)},
		{Name: "a resource and counts", Pod: with(gpuPod("gpu-count", "2"), asks(0, "30Gi")), Want: &berthv1alpha1.PodRequest{
			TotalMemory: map[int]int64{0: 30 * gi}, Runtime: berthv1alpha1.RuntimeCustom, GPUCounts: []int{2},
		}},
		{Name: "a resource and a model", Pod: with(gpuPod("model", "ollama://llama3"), asks(0, "30Gi")), Want: &berthv1alpha1.PodRequest{
			TotalMemory: map[int]int64{0: 30 * gi}, Runtime: berthv1alpha1.RuntimeCustom, Model: "ollama://llama3",
		}},
		{Name: "a resource that agrees with the annotation", Pod: with(gpuPod("gpu-memory", "30Gi"), asks(0, "30720Mi")), Want: total(30 * gi)},
		{
			Name: "a resource that is the smallest total of the annotation", Pod: with(gpuPod("gpu-memory", "1=30Gi,2=34Gi"), asks(0, "30Gi")),
			Want: &berthv1alpha1.PodRequest{
				TotalMemory: map[int]int64{1: 30 * gi, 2: 34 * gi}, Runtime: berthv1alpha1.RuntimeCustom, GPUCounts: []int{1, 2},
			},
		},
		{
			Name: "a resource that is another total of the annotation", Refused: "the annotation berth.dev/gpu-memory asks for 30Gi: write the same",
			Pod: with(gpuPod("gpu-memory", "1=30Gi,2=34Gi"), asks(0, "34Gi")),
		},
		{
			Name: "a resource that contradicts the annotation", Refused: "the annotation berth.dev/gpu-memory asks for 30Gi: write the same",
			Pod: with(gpuPod("gpu-memory", "30Gi"), asks(0, "31Gi")),
		},
		{Name: "a resource without a unit", Refused: "did you mean 30Gi?", Pod: with(gpuPod(), asks(0, "30"))},
		{Name: "a resource of nothing", Refused: "less than the smallest amount, 64Mi", Pod: with(gpuPod(), asks(0, "0"))},
		{Name: "a resource that is far too much", Refused: "more than the largest amount, 1Pi", Pod: with(gpuPod(), asks(0, "2Pi"))},
		{
			Name: "a resource of a pod of the default scheduler", Refused: "schedulerName: berth",
			Pod: with(gpuPod(), scheduler(corev1.DefaultSchedulerName), asks(0, "30Gi")),
		},
		{
			Name: "a resource beside whole GPUs", Refused: "not for both",
			Pod: with(gpuPod(), asks(0, "30Gi"), func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Resources.Limits[berthv1alpha1.ResourceNVIDIAGPU] = resource.MustParse("1")
			}),
		},
		{Name: "a resource of one of two containers, none named", Want: total(30 * gi), Pod: with(gpuPod(), container("sidecar"), asks(1, "30Gi"))},
		{
			Name: "a resource of one of two containers, kubectl's default is the other", Want: total(30 * gi),
			Pod: with(gpuPod(), annotation(defaultContainer, "server"), container("sidecar"), asks(1, "30Gi")),
		},
		{Name: "a resource of the container that is named", Want: ofServer, Pod: with(gpuPod("container", "server"), container("sidecar"), asks(0, "30Gi"))},
		{
			Name: "a resource of a container that is not named", Refused: `the GPUs are for container "server": write the resource there`,
			Pod: with(gpuPod("container", "server"), container("sidecar"), asks(1, "30Gi")),
		},
		{
			Name: "a resource of a container, and another has the reference", Refused: `the GPUs are for container "sidecar": write the resource there`,
			Pod: with(gpuPod(), container("sidecar"), env(1, reference()), asks(0, "30Gi")),
		},
		{
			Name: "a resource of two containers", Refused: "write the total on one of them",
			Pod: with(gpuPod("container", "server"), container("sidecar"), asks(0, "30Gi"), asks(1, "30Gi")),
		},
		{
			Name: "a resource of an init container", Refused: "an init container ends before the pod runs: write it on the container",
			Pod: with(gpuPod(), initContainer(byInit)),
		},
		{Name: "a resource of a native sidecar", Want: total(30 * gi), Pod: with(gpuPod(), initContainer(bySidecar))},
	}
}
