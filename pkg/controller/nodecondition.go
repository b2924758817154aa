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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/controller/nodehealth"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// conditionLook is how often a Node is looked at whose report says nothing new: its agent may be silent, and somebody may
// have made the Node anew.
const conditionLook = 5 * time.Minute

// conditionReconciler writes the condition GPUUnhealthy of Nodes. It writes on change only: a heartbeat on each Node would
// wake everybody who watches Nodes, and that an agent is silent is told by the status Unknown.
type conditionReconciler struct {
	client client.Client
	// live reads past the cache, which has neither Nodes nor Leases.
	live  client.Reader
	clock clock.PassiveClock

	mu sync.Mutex
	// seen is what a Node was seen to have last.
	seen map[string]seenCondition
}

type seenCondition struct {
	condition corev1.NodeCondition
	// until is when the Node is looked at again.
	until time.Time
}

func addCondition(mgr ctrl.Manager, o *Options) error {
	err := ctrl.NewControllerManagedBy(mgr).
		Named("nodecondition").
		For(&gpunode.Object{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(&conditionReconciler{client: mgr.GetClient(), live: mgr.GetAPIReader(), clock: o.Clock})
	if err != nil {
		return fmt.Errorf("add the node condition controller: %w", err)
	}
	return nil
}

// Reconcile implements reconcile.Reconciler for GPUNodes.
func (r *conditionReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := &gpunode.Object{}
	err := r.client.Get(ctx, req.NamespacedName, object, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		r.forget(req.Name)
		return ctrl.Result{}, r.write(ctx, req.Name, nil)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.clock.Now()
	want := nodehealth.Condition(object.Status)
	if left := r.settled(req.Name, &want).Sub(now); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	fresh, err := isFresh(ctx, r.live, req.Name, now)
	if err != nil {
		return ctrl.Result{}, err
	}
	again := wait.Jitter(conditionLook, 0.2)
	if !fresh {
		want, again = nodehealth.Silent(want), staleRetry
	}
	if err := r.write(ctx, req.Name, &want); err != nil {
		r.forget(req.Name)
		return ctrl.Result{}, err
	}
	r.note(req.Name, seenCondition{want, now.Add(again)})
	return ctrl.Result{RequeueAfter: again}, nil
}

// settled returns until when a Node that should have a condition need not be looked at; the zero time if it must.
func (r *conditionReconciler) settled(node string, want *corev1.NodeCondition) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.seen[node]; nodehealth.Same(&s.condition, want) {
		return s.until
	}
	return time.Time{}
}

func (r *conditionReconciler) note(node string, s seenCondition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]seenCondition{}
	}
	r.seen[node] = s
}

func (r *conditionReconciler) forget(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen, node)
}

// write makes a Node have the condition, or none of its type if want is nil. A Node that is gone needs none.
func (r *conditionReconciler) write(ctx context.Context, name string, want *corev1.NodeCondition) error {
	node := &corev1.Node{}
	if err := r.live.Get(ctx, types.NamespacedName{Name: name}, node); err != nil {
		return client.IgnoreNotFound(err)
	}
	has := conditionOf(node)
	switch {
	case want == nil && has == nil, want != nil && has != nil && nodehealth.Same(want, has):
		return nil
	}
	var entry any = map[string]string{"$patch": "delete", "type": berthv1alpha1.ConditionGPUUnhealthy}
	if want != nil {
		now := metav1.NewTime(r.clock.Now())
		c := *want
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		if has != nil && has.Status == c.Status {
			c.LastTransitionTime = has.LastTransitionTime
		}
		entry = c
		ctrl.LoggerFrom(ctx).Info("Health of the GPUs of a node", "node", name, "status", c.Status, "reason", c.Reason, "message", c.Message)
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{entry}}})
	if err != nil {
		return fmt.Errorf("encode the condition: %w", err)
	}
	target := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := r.client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write the condition of node %s: %w", name, err))
	}
	return nil
}

func conditionOf(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == berthv1alpha1.ConditionGPUUnhealthy {
			return c
		}
	}
	return nil
}
