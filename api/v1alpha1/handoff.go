// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// defaultContainerAnnotation is kubectl's: the container that commands act on when none is named.
const defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"

// VisibleDevicesFieldPath is what a container's NVIDIA_VISIBLE_DEVICES refers to by the downward API, so that the
// kubelet fills in the GPUs of the allocation when it starts the container.
const VisibleDevicesFieldPath = "metadata.annotations['" + AnnotationGPUUUIDs + "']"

// VisibleDevicesVoid is the value of NVIDIA_VISIBLE_DEVICES in containers that get no GPU; an image can have "all"
// baked in.
const VisibleDevicesVoid = "void"

// GPUContainer returns the name of the container that gets the pod's GPUs: the one that the annotation names, else
// the one that already has the reference (decided once, whatever is injected into the pod later), else the one that
// kubectl would take, else the only one. It fails, naming the containers, when that leaves a choice.
func GPUContainer(pod *corev1.Pod) (string, error) {
	var referring []string
	for i := range pod.Spec.Containers {
		if HasReference(&pod.Spec.Containers[i]) {
			referring = append(referring, pod.Spec.Containers[i].Name)
		}
	}
	if name, ok := pod.Annotations[AnnotationContainer]; ok {
		switch {
		case !hasContainer(pod, name):
			return "", fmt.Errorf("the pod has no container %q; its containers are %s", name, containerNames(pod))
		case len(referring) == 1 && referring[0] != name:
			return "", fmt.Errorf("container %q is named, but it is container %q that refers to the GPUs", name, referring[0])
		}
		return name, nil
	}
	if len(referring) == 1 {
		return referring[0], nil
	}
	if name := pod.Annotations[defaultContainerAnnotation]; hasContainer(pod, name) {
		return name, nil
	}
	if len(pod.Spec.Containers) == 1 {
		return pod.Spec.Containers[0].Name, nil
	}
	return "", fmt.Errorf("the pod has several containers: name the one that gets the GPUs in %s, one of %s",
		AnnotationContainer, containerNames(pod))
}

// HasReference says whether the container takes its GPUs from the pod's allocation, by every
// NVIDIA_VISIBLE_DEVICES that it sets. The apiserver puts the reference there where its admission policy is
// installed; elsewhere the user writes it by hand.
func HasReference(container *corev1.Container) bool {
	found := false
	for i := range container.Env {
		if container.Env[i].Name != EnvVisibleDevices {
			continue
		}
		if !refersTo(&container.Env[i], VisibleDevicesFieldPath) {
			return false
		}
		found = true
	}
	return found
}

func refersTo(env *corev1.EnvVar, fieldPath string) bool {
	return env.ValueFrom != nil && env.ValueFrom.FieldRef != nil && env.ValueFrom.FieldRef.FieldPath == fieldPath
}

func hasContainer(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return true
		}
	}
	return false
}

func containerNames(pod *corev1.Pod) string {
	names := make([]string, len(pod.Spec.Containers))
	for i := range pod.Spec.Containers {
		names[i] = pod.Spec.Containers[i].Name
	}
	return strings.Join(names, ", ")
}
