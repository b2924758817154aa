// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/controller/noderesource"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// addResource adds what makes Nodes advertise their GPU memory as a resource; or, if they are not to, what takes it off those
// that did.
func addResource(mgr ctrl.Manager, o *Options) error {
	if !o.GPUMemoryResource {
		return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			stopAdvertising(ctx, mgr.GetAPIReader(), mgr.GetClient())
			return nil
		}))
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("noderesource").
		For(&corev1.Node{}, builder.WithPredicates(advertisesElse())).
		Watches(&gpunode.Object{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(memoryChanged())).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(reportOf), builder.WithPredicates(occupancyChanged())).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(&resourceReconciler{client: mgr.GetClient(), clock: o.Clock, headroom: alloc.BytesOf(o.Headroom)})
	if err != nil {
		return fmt.Errorf("add the node resource controller: %w", err)
	}
	return nil
}

// stopAdvertising takes the resource off all Nodes, once; it tries until it succeeds.
func stopAdvertising(ctx context.Context, live client.Reader, c client.Client) {
	backoff := wait.Backoff{Duration: time.Second, Factor: 2, Steps: 10, Cap: 5 * time.Minute, Jitter: 0.2}
	for {
		err := takeOff(ctx, live, c)
		if err == nil {
			return
		}
		ctrl.LoggerFrom(ctx).Error(err, "Cannot take the GPU memory off the nodes that advertised it")
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff.Step()):
		}
	}
}

func takeOff(ctx context.Context, live client.Reader, c client.Client) error {
	const page = 500
	var list corev1.NodeList
	for {
		if err := live.List(ctx, &list, client.Limit(page), client.Continue(list.Continue)); err != nil {
			return fmt.Errorf("list nodes: %w", err)
		}
		for i := range list.Items {
			if noderesource.Of(&list.Items[i]) < 0 {
				continue
			}
			if err := advertise(ctx, c, list.Items[i].Name, -1); err != nil {
				return err
			}
		}
		if list.Continue == "" {
			return nil
		}
	}
}

// advertisesElse leaves the updates of Nodes through after which they advertise something else.
func advertisesElse() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
		return before.UID != after.UID || noderesource.Of(before) != noderesource.Of(after)
	}}
}

// memoryChanged leaves the reports through that tell of other GPUs or of other memory of theirs, not those of who uses it.
func memoryChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*gpunode.Object), e.ObjectNew.(*gpunode.Object)
		return !equality.Semantic.DeepEqual(memoryOf(before), memoryOf(after))
	}}
}

func memoryOf(o *gpunode.Object) []berthv1alpha1.GPUDevice {
	if o.Status == nil {
		return nil
	}
	out := []berthv1alpha1.GPUDevice{}
	for i := range o.Status.Devices {
		d := &o.Status.Devices[i]
		out = append(out, berthv1alpha1.GPUDevice{
			UUID: d.UUID, Parent: d.Parent, Memory: berthv1alpha1.GPUMemory{Total: d.Memory.Total, Reserved: d.Memory.Reserved},
		})
	}
	return out
}

// occupancyChanged leaves the events through by which pods come to nodes and leave them.
func occupancyChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return e.Object.(*corev1.Pod).Spec.NodeName != "" },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			return before.Spec.NodeName != after.Spec.NodeName || before.Status.Phase != after.Status.Phase
		},
	}
}
