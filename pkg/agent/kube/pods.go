// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// annotationConfigHash is what the kubelet's cgroups call a static pod, whose mirror in the API has another UID.
const annotationConfigHash = "kubernetes.io/config.hash"

const (
	indexUID  = "uid"
	indexName = "name"
)

// Pods watches the pods of one node. It implements agent.PodSource.
type Pods struct {
	informer cache.SharedIndexInformer
}

// NewPods returns a source of the pods of a node; Run fills it.
func NewPods(client rest.Interface, node string) (*Pods, error) {
	lw := cache.NewListWatchFromClient(client, "pods", metav1.NamespaceAll, fields.OneTermEqualSelector("spec.nodeName", node))
	informer := cache.NewSharedIndexInformer(lw, &corev1.Pod{}, 0, cache.Indexers{indexUID: byUID, indexName: byName})
	if err := informer.SetTransform(trim); err != nil {
		return nil, fmt.Errorf("pods: %w", err)
	}
	return &Pods{informer: informer}, nil
}

// Run watches until ctx ends.
func (p *Pods) Run(ctx context.Context) { p.informer.RunWithContext(ctx) }

// PodByUID returns the pod of a UID or, for a static pod, of its config hash.
func (p *Pods) PodByUID(uid types.UID) (*corev1.Pod, bool) { return p.find(indexUID, string(uid)) }

// PodByName returns the pod of a name.
func (p *Pods) PodByName(name types.NamespacedName) (*corev1.Pod, bool) {
	return p.find(indexName, name.String())
}

// Pods returns all pods of the node.
func (p *Pods) Pods() []*corev1.Pod {
	objects := p.informer.GetStore().List()
	pods := make([]*corev1.Pod, 0, len(objects))
	for _, o := range objects {
		if pod, ok := o.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods
}

func (p *Pods) find(index, value string) (*corev1.Pod, bool) {
	objects, err := p.informer.GetIndexer().ByIndex(index, value)
	if err != nil || len(objects) == 0 {
		return nil, false
	}
	pod, ok := objects[0].(*corev1.Pod)
	return pod, ok
}

func byUID(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	keys := []string{string(pod.UID)}
	if hash := pod.Annotations[annotationConfigHash]; hash != "" && hash != string(pod.UID) {
		keys = append(keys, hash)
	}
	return keys, nil
}

func byName(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	return []string{pod.Namespace + "/" + pod.Name}, nil
}

// trim keeps of a pod only what the agent reads, so that a node full of large pods costs it little.
func trim(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	annotations := map[string]string{}
	for k, v := range pod.Annotations {
		switch k {
		case berthv1alpha1.AnnotationAllocation, berthv1alpha1.AnnotationGPUUUIDs, berthv1alpha1.AnnotationVisibleDevices, annotationConfigHash:
			annotations[k] = v
		default:
			if strings.HasPrefix(k, berthv1alpha1.NRIAnnotationPrefix) {
				annotations[k] = v
			}
		}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       pod.Namespace,
			Name:            pod.Name,
			UID:             pod.UID,
			ResourceVersion: pod.ResourceVersion,
			Annotations:     annotations,
		},
		Spec: corev1.PodSpec{
			NodeName:         pod.Spec.NodeName,
			SchedulerName:    pod.Spec.SchedulerName,
			RuntimeClassName: pod.Spec.RuntimeClassName,
			Containers:       trimContainers(pod.Spec.Containers),
			InitContainers:   trimContainers(pod.Spec.InitContainers),
		},
		Status: corev1.PodStatus{
			Phase:                 pod.Status.Phase,
			Conditions:            pod.Status.Conditions,
			ContainerStatuses:     trimStatuses(pod.Status.ContainerStatuses),
			InitContainerStatuses: trimStatuses(pod.Status.InitContainerStatuses),
		},
	}, nil
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
