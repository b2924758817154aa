// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/controller/noderesource"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// resourceReconciler makes Nodes advertise their GPU memory as a resource.
type resourceReconciler struct {
	client   client.Client
	clock    clock.PassiveClock
	headroom alloc.Bytes

	mu sync.Mutex
	// less is since when a node should advertise less than it does.
	less map[string]time.Time
}

// Reconcile implements reconcile.Reconciler for Nodes, and for what is of the same name or on them.
func (r *resourceReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	node := &corev1.Node{}
	if err := r.client.Get(ctx, req.NamespacedName, node, client.UnsafeDisableDeepCopy); err != nil {
		r.since(req.Name, time.Time{})
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	has := noderesource.Of(node)
	want, known, err := r.want(ctx, req.NamespacedName)
	if err != nil || !known {
		return ctrl.Result{}, err
	}
	now := r.clock.Now()
	write, due, at := noderesource.Step(has, want, r.since(req.Name, time.Time{}), now)
	if !due {
		if at.IsZero() {
			return ctrl.Result{}, nil
		}
		r.since(req.Name, at.Add(-noderesource.LowerAfter))
		return ctrl.Result{RequeueAfter: at.Sub(now)}, nil
	}
	ctrl.LoggerFrom(ctx).Info("GPU memory that a node advertises", "node", req.Name, "before", has, "after", write)
	return ctrl.Result{}, advertise(ctx, r.client, req.Name, write)
}

// want returns what a node should advertise, in bytes; false if its report cannot be read, and so nothing is known to have
// changed. A node without a report has no GPUs, or none yet.
func (r *resourceReconciler) want(ctx context.Context, node types.NamespacedName) (int64, bool, error) {
	object := &gpunode.Object{}
	if err := r.client.Get(ctx, node, object, client.UnsafeDisableDeepCopy); err != nil {
		return 0, true, client.IgnoreNotFound(err)
	}
	if object.Status == nil {
		return 0, false, nil
	}
	pods, err := podsOn(ctx, r.client, node.Name)
	if err != nil {
		return 0, false, err
	}
	return noderesource.Advertised(object.Status.Devices, r.headroom, pods), true, nil
}

// since returns since when a node should advertise less, and replaces it.
func (r *resourceReconciler) since(node string, by time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.less[node]
	if by.IsZero() {
		delete(r.less, node)
		return before
	}
	if r.less == nil {
		r.less = map[string]time.Time{}
	}
	r.less[node] = by
	return before
}

// podsOn returns the pods that are bound to a node.
func podsOn(ctx context.Context, c client.Reader, node string) ([]*corev1.Pod, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.MatchingFields{indexNode: node}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("pods of node %s: %w", node, err)
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	return pods, nil
}

// advertise makes a Node list so many bytes of the resource; none if negative. The kubelet takes what can be allocated from
// the capacity, within seconds; the scheduler need not wait for that.
func advertise(ctx context.Context, c client.Client, node string, bytes int64) error {
	list := map[corev1.ResourceName]any{berthv1alpha1.ResourceGPUMemory: nil}
	if bytes >= 0 {
		list[berthv1alpha1.ResourceGPUMemory] = resource.NewQuantity(bytes, resource.BinarySI)
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"capacity": list, "allocatable": list}})
	if err != nil {
		return fmt.Errorf("encode the resource: %w", err)
	}
	target := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
	if err := c.Status().Patch(ctx, target, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write the resource of node %s: %w", node, err))
	}
	return nil
}
