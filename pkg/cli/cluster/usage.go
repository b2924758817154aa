// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/cli/usage"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// UsageScope is what usage is asked of.
type UsageScope struct {
	// Namespace is the only one whose pods count; empty = all. Fallback is the one to count where not all pods may be read.
	Namespace, Fallback string
	// Owners says that what owns the owners of pods is needed.
	Owners bool
}

// ReadUsage reads what usage is made from. Only the pods of one namespace are needed: what else may not be read is named in
// the notes, with what follows.
func (c *Client) ReadUsage(ctx context.Context, scope UsageScope) (*usage.Objects, error) {
	o := &usage.Objects{}
	all := metav1.ListOptions{}
	pods, err := c.kube.CoreV1().Pods(scope.Namespace).List(ctx, all)
	if apierrors.IsForbidden(err) && scope.Namespace == "" && scope.Fallback != "" {
		scope.Namespace = scope.Fallback
		o.Notes = append(o.Notes, "Pods of all namespaces could not be read, so only those of namespace "+scope.Namespace+" are counted; name another by -n")
		pods, err = c.kube.CoreV1().Pods(scope.Namespace).List(ctx, all)
	}
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("list pods: name a namespace whose pods you may read by -n (%w)", err)
	case err != nil:
		return nil, fmt.Errorf("list pods: %w", err)
	}
	o.Pods = pods.Items

	reports := &gpunode.List{}
	err = c.berth.Get().Resource("gpunodes").Do(ctx).Into(reports)
	switch {
	case err == nil:
		for i := range reports.Items {
			reports.Items[i].Decode()
			addReport(&o.Objects, &reports.Items[i])
		}
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("the cluster has no GPUNodes: is Berth installed? (%w)", err)
	case unreadable(err):
		o.Notes = append(o.Notes, "GPUNodes could not be read (ClusterRole berth-viewer lets you), so it is not known what is measured: what is booked is told by the pods alone")
	default:
		return nil, fmt.Errorf("list GPUNodes: %w", err)
	}
	nodes, err := c.kube.CoreV1().Nodes().List(ctx, all)
	switch {
	case err == nil:
		o.Nodes = nodes.Items
	case unreadable(err):
		o.Notes = append(o.Notes, "Nodes could not be read, so it is not known of which pool they are")
		o.Nodes = namedBy(o)
	default:
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	if err := c.readMore(ctx, &o.Objects); err != nil {
		return nil, err
	}
	if scope.Owners {
		return o, c.readOwners(ctx, o, scope.Namespace)
	}
	return o, nil
}

// namedBy are the nodes of which only reports and pods tell.
func namedBy(o *usage.Objects) (nodes []corev1.Node) {
	seen := map[string]bool{"": true}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			nodes = append(nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
	}
	for i := range o.GPUNodes {
		add(o.GPUNodes[i].Name)
	}
	for i := range o.Pods {
		add(o.Pods[i].Spec.NodeName)
	}
	return nodes
}

// from makes a list function of a typed client's.
func from[T runtime.Object](list func(context.Context, metav1.ListOptions) (T, error)) func(context.Context) (runtime.Object, error) {
	return func(ctx context.Context) (runtime.Object, error) { return list(ctx, metav1.ListOptions{}) }
}

// readOwners reads what owns pods and is itself owned by others. What may not be read is not followed, which usage says.
func (c *Client) readOwners(ctx context.Context, o *usage.Objects, namespace string) error {
	apps := c.kube.AppsV1()
	for what, list := range map[string]func(context.Context) (runtime.Object, error){
		"ReplicaSets":  from(apps.ReplicaSets(namespace).List),
		"Deployments":  from(apps.Deployments(namespace).List),
		"StatefulSets": from(apps.StatefulSets(namespace).List),
		"Jobs":         from(c.kube.BatchV1().Jobs(namespace).List),
	} {
		found, err := list(ctx)
		switch {
		case err == nil:
		case unreadable(err):
			continue
		default:
			return fmt.Errorf("list %s: %w", what, err)
		}
		objects, err := meta.ExtractList(found)
		if err != nil {
			return fmt.Errorf("list %s: %w", what, err)
		}
		for _, object := range objects {
			addOwner(o, object)
		}
	}
	return nil
}

func addOwner(o *usage.Objects, object runtime.Object) {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return // a list
	}
	if o.Owners == nil {
		o.Owners = map[types.UID][]metav1.OwnerReference{}
	}
	o.Owners[accessor.GetUID()] = accessor.GetOwnerReferences()
}

// UsageOf returns what usage is made from, of a snapshot, and the scheduler's arguments. Only the pods of a namespace count,
// unless it is empty.
func UsageOf(s *simulator.Snapshot, namespace string) (*usage.Objects, gpumap.Settings, error) {
	o := &usage.Objects{}
	o.Time, o.Notes = s.Time, slices.Clone(s.Notes)
	for _, object := range s.Objects {
		switch object := object.(type) {
		case *corev1.Node:
			o.Nodes = append(o.Nodes, *object)
		case *corev1.Pod:
			if namespace == "" || namespace == object.Namespace {
				o.Pods = append(o.Pods, *object)
			}
		case *gpunode.Object:
			addReport(&o.Objects, object)
		case *berthv1alpha1.ModelProfile:
			o.Profiles = append(o.Profiles, *object)
		case *coordinationv1.Lease:
			o.Leases = append(o.Leases, *object)
		case *resourcev1.ResourceSlice:
			o.Slices = append(o.Slices, *object)
		case *resourcev1.ResourceClaim:
			o.Claims = append(o.Claims, *object)
		case *appsv1.ReplicaSet, *appsv1.Deployment, *appsv1.StatefulSet, *batchv1.Job:
			addOwner(o, object)
		}
	}
	if len(o.GPUNodes)+len(o.Unreadable) == 0 && len(o.Pods) == 0 {
		return nil, gpumap.Settings{}, errors.New("the file has neither GPUNodes nor pods: make one by kubectl berth snapshot -o FILE")
	}
	settings, err := parseSettings(s.Config)
	if err != nil {
		return nil, settings, fmt.Errorf("configuration of the scheduler: %w", err)
	}
	return o, settings, nil
}
