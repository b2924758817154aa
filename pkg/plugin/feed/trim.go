// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// trimFramework has the framework's informers, which must not run yet, keep only what a scheduler reads: tens of thousands of
// pods that are bound are most of its memory. kube-scheduler itself leaves out the field managers of pods, and nothing of nodes.
func (f *Feed) trimFramework() error {
	core := f.Handle.SharedInformerFactory().Core().V1()
	if err := core.Pods().Informer().SetTransform(func(obj any) (any, error) {
		if pod, ok := obj.(*corev1.Pod); ok {
			f.Warm.Seen(pod) // what it loads is told by what is left out
		}
		return trimPod(obj)
	}); err != nil {
		return err
	}
	return core.Nodes().Informer().SetTransform(trimNode)
}

func trimNode(obj any) (any, error) {
	if node, ok := obj.(*corev1.Node); ok {
		node.ManagedFields = nil
	}
	return obj, nil
}

// trimPod leaves out what matters only to the kubelet once a pod is bound. Of one that is not, all counts: its model's memory is
// read from its command, arguments and environment, and its hand-off from the latter.
func trimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil // a tombstone
	}
	pod.ManagedFields = nil
	if pod.Spec.NodeName == "" {
		return pod, nil
	}
	delete(pod.Annotations, corev1.LastAppliedConfigAnnotation)
	pod.Spec.EphemeralContainers = nil // they have no resources, and no ports
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			trimContainer(&containers[i])
		}
	}
	var volumes []corev1.Volume // a new list: the old one would keep the memory of all
	for _, v := range pod.Spec.Volumes {
		// Others, such as the token that each pod has, need no disk of the node.
		if v.Projected == nil && v.EmptyDir == nil && v.ConfigMap == nil && v.Secret == nil && v.DownwardAPI == nil {
			volumes = append(volumes, v)
		}
	}
	pod.Spec.Volumes = volumes
	pod.Status.EphemeralContainerStatuses = nil
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			s := &statuses[i]
			s.Image, s.ImageID, s.ContainerID, s.VolumeMounts = "", "", "", nil
		}
	}
	return pod, nil
}

// trimContainer keeps what the framework's plugins and ours read of a container that was placed: its name, image, resources,
// ports and restart policy.
func trimContainer(c *corev1.Container) {
	*c = corev1.Container{
		Name: c.Name, Image: c.Image, Ports: c.Ports, Resources: c.Resources, ResizePolicy: c.ResizePolicy, RestartPolicy: c.RestartPolicy,
	}
}

var (
	_ cache.TransformFunc = trimPod
	_ cache.TransformFunc = trimNode
)
