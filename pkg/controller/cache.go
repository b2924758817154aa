// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/firstlist"
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
		&berthv1alpha1.ModelProfile{}: {Transform: cache.TransformStripManagedFields()},
	}}
}

// trimPod keeps of a pod that names a model its request, its engine's command line and its readiness; of others
// nothing but their identity.
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
		Spec:   corev1.PodSpec{SchedulerName: pod.Spec.SchedulerName, NodeName: pod.Spec.NodeName},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, StartTime: pod.Status.StartTime},
	}
	if pod.Annotations[berthv1alpha1.AnnotationModel] == "" {
		return trimmed, nil
	}
	trimmed.Annotations = make(map[string]string, len(pod.Annotations))
	for key, value := range pod.Annotations {
		if strings.HasPrefix(key, berthv1alpha1.GroupName+"/") || key == "kubectl.kubernetes.io/default-container" {
			trimmed.Annotations[key] = value
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			trimmed.Status.Conditions = append(trimmed.Status.Conditions, c)
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		trimmed.Spec.Containers = append(trimmed.Spec.Containers, corev1.Container{
			Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Env: c.Env, EnvFrom: c.EnvFrom,
		})
	}
	return trimmed, nil
}

// trimGPUNode decodes a GPUNode, and keeps which pods hold how much, of how much.
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
			UUID: d.UUID, Memory: berthv1alpha1.GPUMemory{Total: d.Memory.Total}, Processes: d.Processes,
		})
	}
	return trimmed, nil
}
