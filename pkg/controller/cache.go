// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/firstlist"
	"github.com/berth-dev/berth/pkg/controller/noderesource"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// CacheOptions keep the cache small in a cluster of many pods: only those of the scheduler, and of everything only
// what is read here.
func CacheOptions() cache.Options {
	return cache.Options{DefaultWatchErrorHandler: firstlist.WatchErrorHandler(), ByObject: map[client.Object]cache.ByObject{
		&corev1.Pod{}: {
			Field:     fields.OneTermEqualSelector("spec.schedulerName", berthv1alpha1.SchedulerName),
			Transform: trimPod,
		},
		&gpunode.Object{}:             {Transform: trimGPUNode},
		&corev1.Node{}:                {Transform: trimNode},
		&berthv1alpha1.ModelProfile{}: {Transform: cache.TransformStripManagedFields()},
	}}
}

// trimPod keeps of a pod how it was given its GPUs and how its containers fare; of one that names a model, its request and
// its engine's command line too.
func trimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	trimmed := &corev1.Pod{
		TypeMeta: pod.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         pod.Namespace,
			Name:              pod.Name,
			UID:               pod.UID,
			ResourceVersion:   pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp,
			DeletionTimestamp: pod.DeletionTimestamp,
		},
		Spec: corev1.PodSpec{
			SchedulerName: pod.Spec.SchedulerName, NodeName: pod.Spec.NodeName, RuntimeClassName: pod.Spec.RuntimeClassName,
			InitContainers: trimContainers(pod.Spec.InitContainers),
		},
		Status: corev1.PodStatus{
			Phase: pod.Status.Phase, StartTime: pod.Status.StartTime,
			ContainerStatuses: trimStatuses(pod.Status.ContainerStatuses), InitContainerStatuses: trimStatuses(pod.Status.InitContainerStatuses),
		},
	}
	noderesource.TrimPod(trimmed, pod)
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			trimmed.Status.Conditions = append(trimmed.Status.Conditions, c)
		}
	}
	hasModel := pod.Annotations[berthv1alpha1.AnnotationModel] != ""
	trimmed.Annotations = make(map[string]string, len(pod.Annotations))
	for key, value := range pod.Annotations {
		ofAllocation := slices.Contains(allocationAnnotations, key) || strings.HasPrefix(key, berthv1alpha1.NRIAnnotationPrefix)
		ofRequest := strings.HasPrefix(key, berthv1alpha1.GroupName+"/") || key == "kubectl.kubernetes.io/default-container"
		if ofAllocation || ofRequest && hasModel {
			trimmed.Annotations[key] = value
		}
	}
	if !hasModel {
		trimmed.Spec.Containers = trimContainers(pod.Spec.Containers)
		return trimmed, nil
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		trimmed.Spec.Containers = append(trimmed.Spec.Containers, corev1.Container{
			Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Env: c.Env, EnvFrom: c.EnvFrom,
		})
	}
	return trimmed, nil
}

// allocationAnnotations are those by which a pod was given its GPUs, but for NRI's.
var allocationAnnotations = []string{
	berthv1alpha1.AnnotationAllocation, berthv1alpha1.AnnotationGPUUUIDs, berthv1alpha1.AnnotationVisibleDevices,
}

// trimNode keeps of a Node the resource that it advertises; see addResource.
func trimNode(obj any) (any, error) {
	if node, ok := obj.(*corev1.Node); ok {
		return noderesource.TrimNode(node), nil
	}
	return obj, nil
}

// trimContainers keeps the references to GPUs, and the containers that have one.
func trimContainers(containers []corev1.Container) (out []corev1.Container) {
	for i := range containers {
		for _, e := range containers[i].Env {
			if e.Name == berthv1alpha1.EnvVisibleDevices && e.ValueFrom != nil {
				out = append(out, corev1.Container{Name: containers[i].Name, Env: []corev1.EnvVar{e}})
			}
		}
	}
	return out
}

// trimStatuses keeps how containers fare.
func trimStatuses(statuses []corev1.ContainerStatus) (out []corev1.ContainerStatus) {
	for i := range statuses {
		s := &statuses[i]
		out = append(out, corev1.ContainerStatus{Name: s.Name, State: s.State, LastTerminationState: s.LastTerminationState})
	}
	return out
}

// trimGPUNode decodes a GPUNode, and keeps which pods hold how much, of how much, and what is known of the hand-off
// beside what the agent found in files.
func trimGPUNode(obj any) (any, error) {
	node, ok := obj.(*gpunode.Object)
	if !ok {
		return obj, nil
	}
	node.Decode()
	trimmed := &gpunode.Object{
		TypeMeta:   node.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
		Problem:    node.Problem,
	}
	if node.Status == nil {
		return trimmed, nil
	}
	trimmed.Status = &berthv1alpha1.GPUNodeStatus{}
	for i := range node.Status.Devices {
		d := &node.Status.Devices[i]
		trimmed.Status.Devices = append(trimmed.Status.Devices, berthv1alpha1.GPUDevice{
			UUID: d.UUID, Index: d.Index, Memory: berthv1alpha1.GPUMemory{Total: d.Memory.Total, Reserved: d.Memory.Reserved},
			Parent: d.Parent, Processes: d.Processes, Health: d.Health, Reason: d.Reason, AssignedTo: d.AssignedTo, AssignedPods: d.AssignedPods,
		})
	}
	if h := node.Status.HandOff; h != nil {
		trimmed.Status.HandOff = &berthv1alpha1.HandOff{ChangedTime: h.ChangedTime, NotInjected: h.NotInjected, Shown: h.Shown}
	}
	return trimmed, nil
}
