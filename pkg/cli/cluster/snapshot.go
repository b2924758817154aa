// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// source is a kind of objects that a scheduler reads.
type source struct {
	what string
	list func(context.Context) (runtime.Object, error)
	// without says what follows if they may not be read; empty = nothing can be said without them.
	without string
}

// from makes a list function of a typed client's.
func from[T runtime.Object](list func(context.Context, metav1.ListOptions) (T, error)) func(context.Context) (runtime.Object, error) {
	return func(ctx context.Context) (runtime.Object, error) { return list(ctx, metav1.ListOptions{}) }
}

func (c *Client) sources() []source {
	const all = metav1.NamespaceAll
	core, storage, resource := c.kube.CoreV1(), c.kube.StorageV1(), c.kube.ResourceV1()
	berths := func(resource string, into runtime.Object) func(context.Context) (runtime.Object, error) {
		return func(ctx context.Context) (runtime.Object, error) {
			return into, c.berth.Get().Resource(resource).Do(ctx).Into(into)
		}
	}
	const (
		volumes = "pods with volumes may be placed where their volumes are not"
		claims  = "it is not known which GPUs claims hold, and pods with claims wait"
		spread  = "pods are not spread over zones by default"
	)
	return []source{
		{"GPUNodes", berths("gpunodes", &gpunode.List{}), ""},
		{"nodes", from(core.Nodes().List), ""},
		{"pods", from(core.Pods(all).List), ""},
		{"Leases of the agents", from(c.kube.CoordinationV1().Leases(berthv1alpha1.Namespace).List), "all agents are taken to be alive"},
		{"ModelProfiles", berths("modelprofiles", &berthv1alpha1.ModelProfileList{}), "pods that name a model and no memory wait for its size"},
		{"PodDisruptionBudgets", from(c.kube.PolicyV1().PodDisruptionBudgets(all).List), "no eviction counts as one that breaks a budget"},
		{"PriorityClasses", from(c.kube.SchedulingV1().PriorityClasses().List), "manifests that name a priority class are refused"},
		{"RuntimeClasses", from(c.kube.NodeV1().RuntimeClasses().List), "pods that name one wait for it"},
		{"MutatingAdmissionPolicies", from(c.kube.AdmissionregistrationV1().MutatingAdmissionPolicies().List), "those that are shipped with this version are applied to manifests"},
		{"ResourceSlices", from(resource.ResourceSlices().List), claims},
		{"ResourceClaims", from(resource.ResourceClaims(all).List), claims},
		{"DeviceClasses", from(resource.DeviceClasses().List), claims},
		{"PersistentVolumes", from(core.PersistentVolumes().List), volumes},
		{"PersistentVolumeClaims", from(core.PersistentVolumeClaims(all).List), volumes},
		{"StorageClasses", from(storage.StorageClasses().List), volumes},
		{"CSINodes", from(storage.CSINodes().List), volumes},
		{"CSIDrivers", from(storage.CSIDrivers().List), volumes},
		{"namespaces", from(core.Namespaces().List), "affinity by the labels of namespaces matches none"},
		{"services", from(core.Services(all).List), spread},
		{"ReplicaSets", from(c.kube.AppsV1().ReplicaSets(all).List), spread},
		{"StatefulSets", from(c.kube.AppsV1().StatefulSets(all).List), spread},
	}
}

// Snapshot reads what a scheduler reads. What may not be read, or is not served, is named in the notes, with what follows.
func (c *Client) Snapshot(ctx context.Context) (*simulator.Snapshot, error) {
	s := &simulator.Snapshot{}
	var err error
	if s.Config, _, err = c.schedulerConfig(ctx); err != nil {
		return nil, err
	}
	if s.Config == nil {
		s.Notes = append(s.Notes, "The configuration of the scheduler could not be read: it is taken to be as it is shipped")
	}
	leases := false
	for _, source := range c.sources() {
		list, err := source.list(ctx)
		switch {
		case err == nil:
		case unreadable(err) && source.without != "":
			s.Notes = append(s.Notes, source.what+" could not be read: "+source.without)
			continue
		case unreadable(err) && source.what == "GPUNodes":
			return nil, fmt.Errorf("list GPUNodes: is Berth installed, and may you read them (ClusterRole berth-viewer)? (%w)", err)
		default:
			return nil, fmt.Errorf("list %s: %w", source.what, err)
		}
		objects, err := meta.ExtractList(list)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", source.what, err)
		}
		for _, obj := range objects {
			if keep(obj) {
				s.Objects = append(s.Objects, obj)
			}
		}
		if _, ok := list.(*coordinationv1.LeaseList); ok {
			leases = true
		}
	}
	s.Time = c.clock.now()
	if !leases {
		s.TakeForAlive()
	}
	return s, nil
}

// EventsOf returns the Events of a pod; the note says why there are none, if they may not be read.
func (c *Client) EventsOf(ctx context.Context, pod *corev1.Pod) (events []corev1.Event, note string, err error) {
	selector := fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID))
	list, err := c.kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: selector.String()})
	switch {
	case err == nil:
		return list.Items, "", nil
	case unreadable(err):
		return nil, "Events could not be read, so it is not shown what the scheduler told when it placed the pod", nil
	}
	return nil, "", fmt.Errorf("list Events of pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// keep says whether an object of a list is of the snapshot, and decodes it if it is a report.
func keep(obj runtime.Object) bool {
	switch o := obj.(type) {
	case *gpunode.Object:
		o.Decode()
	case *admissionv1.MutatingAdmissionPolicy:
		return strings.HasPrefix(o.Name, "berth-")
	case *corev1.Pod:
		return o.Status.Phase != corev1.PodSucceeded && o.Status.Phase != corev1.PodFailed
	}
	return true
}
