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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	// list reads all, or those of a namespace. namespaced says whether there is such a thing.
	list       func(ctx context.Context, namespace string) (runtime.Object, error)
	namespaced bool
	// without says what follows if they may not be read; empty = nothing can be simulated without them.
	without string
}

// lister is a typed client of a kind.
type lister[T runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (T, error)
}

// clusterWide is the source of a kind that has no namespaces.
func clusterWide[T runtime.Object](what string, client lister[T], without string) source {
	return source{what: what, without: without, list: func(ctx context.Context, _ string) (runtime.Object, error) {
		return client.List(ctx, metav1.ListOptions{})
	}}
}

// inNamespaces is the source of a kind that has.
func inNamespaces[T runtime.Object, L lister[T]](what string, client func(namespace string) L, without string) source {
	return source{what: what, without: without, namespaced: true, list: func(ctx context.Context, namespace string) (runtime.Object, error) {
		return client(namespace).List(ctx, metav1.ListOptions{})
	}}
}

func (c *Client) sources() []source {
	core, storage, resource, apps := c.kube.CoreV1(), c.kube.StorageV1(), c.kube.ResourceV1(), c.kube.AppsV1()
	berths := func(what, resource string, into runtime.Object, without string) source {
		return source{what: what, without: without, list: func(ctx context.Context, _ string) (runtime.Object, error) {
			return into, c.berth.Get().Resource(resource).Do(ctx).Into(into)
		}}
	}
	const (
		volumes = "pods with volumes may be placed where their volumes are not"
		claims  = "it is not known which GPUs claims hold, and pods with claims wait"
		spread  = "pods are not spread over zones by default"
	)
	leases := clusterWide("Leases of the agents", c.kube.CoordinationV1().Leases(berthv1alpha1.Namespace), "all agents are taken to be alive")
	return []source{
		berths("GPUNodes", "gpunodes", &gpunode.List{}, ""),
		clusterWide("nodes", core.Nodes(), ""),
		inNamespaces("pods", core.Pods, ""),
		leases,
		berths("ModelProfiles", "modelprofiles", &berthv1alpha1.ModelProfileList{}, "pods that name a model and no memory wait for its size"),
		inNamespaces("PodDisruptionBudgets", c.kube.PolicyV1().PodDisruptionBudgets, "no eviction counts as one that breaks a budget"),
		clusterWide("PriorityClasses", c.kube.SchedulingV1().PriorityClasses(), "manifests that name a priority class are refused"),
		clusterWide("RuntimeClasses", c.kube.NodeV1().RuntimeClasses(), "pods that name one wait for it"),
		clusterWide("MutatingAdmissionPolicies", c.kube.AdmissionregistrationV1().MutatingAdmissionPolicies(), "those that are shipped with this version are applied to manifests"),
		clusterWide("ResourceSlices", resource.ResourceSlices(), claims),
		inNamespaces("ResourceClaims", resource.ResourceClaims, claims),
		inNamespaces("ResourceClaimTemplates", resource.ResourceClaimTemplates, "new pods whose claims are made of one wait"),
		clusterWide("DeviceClasses", resource.DeviceClasses(), claims),
		clusterWide("DeviceTaintRules", resource.DeviceTaintRules(), "devices that are tainted may be claimed"),
		clusterWide("PersistentVolumes", core.PersistentVolumes(), volumes),
		inNamespaces("PersistentVolumeClaims", core.PersistentVolumeClaims, volumes),
		clusterWide("StorageClasses", storage.StorageClasses(), volumes),
		clusterWide("CSINodes", storage.CSINodes(), volumes),
		clusterWide("CSIDrivers", storage.CSIDrivers(), volumes),
		inNamespaces("CSIStorageCapacities", storage.CSIStorageCapacities, "pods may be placed where there is no room for their volumes"),
		clusterWide("VolumeAttachments", storage.VolumeAttachments(), "more volumes may be placed on a node than can be attached there"),
		clusterWide("namespaces", core.Namespaces(), "affinity by the labels of namespaces matches none"),
		inNamespaces("services", core.Services, spread),
		inNamespaces("ReplicaSets", apps.ReplicaSets, spread),
		inNamespaces("StatefulSets", apps.StatefulSets, spread),
	}
}

// Snapshot reads what a scheduler reads. What may not be read, or is not served, is named in the notes, with what follows. Of
// what may be read in one namespace only, that namespace is taken; then the snapshot says what is missing.
func (c *Client) Snapshot(ctx context.Context, namespace string) (*simulator.Snapshot, error) {
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
		what := source.what
		list, err := source.list(ctx, metav1.NamespaceAll)
		if apierrors.IsForbidden(err) && source.namespaced && namespace != "" {
			what += " of other namespaces than " + namespace
			if list, err = source.list(ctx, namespace); err == nil {
				lacks(s, what, source.without)
			}
		}
		switch {
		case err == nil:
		case apierrors.IsNotFound(err) && source.what == "GPUNodes":
			return nil, fmt.Errorf("the cluster has no GPUNodes: is Berth installed? (%w)", err)
		case apierrors.IsNotFound(err):
			continue // an API that is not served has no objects
		case apierrors.IsForbidden(err):
			lacks(s, source.what, source.without)
			continue
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

// lacks notes what could not be read.
func lacks(s *simulator.Snapshot, what, without string) {
	if without == "" {
		s.Missing = append(s.Missing, what)
		return
	}
	s.Notes = append(s.Notes, what+" could not be read: "+without)
}

// EventsOf returns the Events of a pod; the note says why there are none, if they may not be read.
func (c *Client) EventsOf(ctx context.Context, pod *corev1.Pod) (events []corev1.Event, note string, err error) {
	selector := fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID))
	list, err := c.kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: selector.String()})
	switch {
	case err == nil:
		return list.Items, "", nil
	case unreadable(err):
		return nil, "Events could not be read, so it is not shown what the scheduler told of the pod", nil
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
