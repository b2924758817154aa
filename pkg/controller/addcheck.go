// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-dev/berth/pkg/gpunode"
)

// addCheck adds what compares reports with pods, and the metrics of what pods have booked.
func addCheck(mgr ctrl.Manager, o *Options) error {
	if err := registerCollector(&bookedCollector{cache: mgr.GetCache(), pods: o.PodMetrics, elected: mgr.Elected()}); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	check := &checkReconciler{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), recorder: mgr.GetEventRecorder(recorderName),
		clock: o.Clock, margin: o.OveruseMargin,
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("check").
		For(&gpunode.Object{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(reportOf), builder.WithPredicates(fareChanged())).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(check)
	if err != nil {
		return fmt.Errorf("add the check controller: %w", err)
	}
	return nil
}

// reportOf returns the GPUNode of the node of a pod that was given GPUs.
func reportOf(_ context.Context, obj client.Object) []reconcile.Request {
	pod := obj.(*corev1.Pod)
	if pod.Spec.NodeName == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: pod.Spec.NodeName}}}
}

// fareChanged leaves out the updates of pods after which a look at them finds nothing else.
func fareChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
		return before.Spec.NodeName != after.Spec.NodeName || !readySince(before).Equal(readySince(after)) ||
			!equality.Semantic.DeepEqual(before.Annotations, after.Annotations) ||
			!equality.Semantic.DeepEqual(before.Status.ContainerStatuses, after.Status.ContainerStatuses) ||
			!equality.Semantic.DeepEqual(before.Status.InitContainerStatuses, after.Status.InitContainerStatuses)
	}}
}
