// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// defaultContainerAnnotation is kubectl's: the container that commands act on when none is named.
const defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"

// What a container's NVIDIA_VISIBLE_DEVICES refers to by the downward API, so that the kubelet fills in the GPUs of the
// allocation when it starts the container.
const (
	// VisibleDevicesFieldPath gives the GPUs in the form that the node's container runtime takes.
	VisibleDevicesFieldPath = "metadata.annotations['" + AnnotationVisibleDevices + "']"
	// GPUUUIDsFieldPath gives bare UUIDs, which not every runtime takes. It is what older versions injected.
	GPUUUIDsFieldPath = "metadata.annotations['" + AnnotationGPUUUIDs + "']"
)

// VisibleDevicesVoid is the value of NVIDIA_VISIBLE_DEVICES in containers that get no GPU; an image can have "all"
// baked in.
const VisibleDevicesVoid = "void"

// GPUContainers returns the names of the containers that share the pod's GPUs: those that the annotation names, in its
// order, else the one that already has the reference (decided once, whatever is injected into the pod later), else the
// one that asks for GPU memory by the resource, else the one that kubectl would take, else the only one. The first is the one whose engine the GPUs are for: a container or a
// sidecar, which stays. It fails when that leaves a choice, and when a container has the reference and is none of them.
func GPUContainers(pod *corev1.Pod) ([]string, error) {
	c := containersOf(pod)
	if names, ok := pod.Annotations[AnnotationContainer]; ok {
		return c.named(strings.Split(names, ","))
	}
	for _, name := range c.referring {
		if !slices.Contains(c.staying, name) {
			return nil, fmt.Errorf("init container %q refers to the GPUs: init containers can get GPUs when named in %s, "+
				"behind the container that they are for, such as %s", name, AnnotationContainer,
				strings.Join(append(slices.Clone(c.staying[:min(1, len(c.staying))]), name), ","))
		}
	}
	switch byKubectl := pod.Annotations[defaultContainerAnnotation]; {
	case len(c.referring) == 1:
		return c.referring, nil
	case len(c.referring) > 1:
		return nil, fmt.Errorf("the containers %s refer to the GPUs: name those that share them, as %s: %s",
			strings.Join(c.referring, " and "), AnnotationContainer, strings.Join(c.referring, ","))
	case len(c.asking) == 1:
		return c.asking, nil
	case slices.Contains(c.main, byKubectl):
		return []string{byKubectl}, nil
	case len(c.main) == 1:
		return c.main, nil
	}
	return nil, fmt.Errorf("the pod has several containers: name the one that gets the GPUs in %s, one of %s",
		AnnotationContainer, strings.Join(c.staying, ", "))
}

// containers are the names of a pod's containers.
type containers struct {
	main []string
	// staying are the main ones, and init containers that are sidecars.
	staying []string
	all     []string
	// referring are those that have the reference, and asking those staying that ask for GPU memory by the resource.
	referring, asking []string
}

func containersOf(pod *corev1.Pod) *containers {
	c := &containers{}
	add := func(container *corev1.Container, lists ...*[]string) {
		if HasReference(container) {
			lists = append(lists, &c.referring)
		}
		for _, list := range lists {
			*list = append(*list, container.Name)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i], &c.main, &c.staying, &c.all)
	}
	for _, a := range askingByResource(pod) {
		if a.stays {
			c.asking = append(c.asking, a.container.Name)
		}
	}
	for i := range pod.Spec.InitContainers {
		if container := &pod.Spec.InitContainers[i]; isSidecar(container) {
			add(container, &c.staying, &c.all)
		} else {
			add(container, &c.all)
		}
	}
	return c
}

// isSidecar says whether an init container runs as long as the pod.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// named checks the names that the annotation gives.
func (c *containers) named(names []string) ([]string, error) {
	for i, name := range names {
		switch {
		case !slices.Contains(c.all, name):
			return nil, fmt.Errorf("the pod has no container %q: write one or more of %s, with commas between them",
				name, strings.Join(c.all, ", "))
		case slices.Contains(names[:i], name):
			return nil, fmt.Errorf("container %q is named twice", name)
		}
	}
	if !slices.Contains(c.staying, names[0]) {
		return nil, fmt.Errorf("the first that is named is the one that the GPUs are for, and init container %q ends before "+
			"the pod runs: begin with one of %s", names[0], strings.Join(c.staying, ", "))
	}
	for _, name := range c.referring {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("container %q refers to the GPUs and is not named: write %s,%s, or leave its %s out; init "+
				"containers can get GPUs when named in %s", name, strings.Join(names, ","), name, EnvVisibleDevices, AnnotationContainer)
		}
	}
	return names, nil
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
		if !refersTo(&container.Env[i], VisibleDevicesFieldPath) && !refersTo(&container.Env[i], GPUUUIDsFieldPath) {
			return false
		}
		found = true
	}
	return found
}

// WantsUUIDs says whether the container has a reference that gives it bare UUIDs, whatever the node's container runtime
// takes.
func WantsUUIDs(container *corev1.Container) bool {
	return slices.ContainsFunc(container.Env, func(e corev1.EnvVar) bool {
		return e.Name == EnvVisibleDevices && refersTo(&e, GPUUUIDsFieldPath)
	})
}

func refersTo(env *corev1.EnvVar, fieldPath string) bool {
	return env.ValueFrom != nil && env.ValueFrom.FieldRef != nil && env.ValueFrom.FieldRef.FieldPath == fieldPath
}
