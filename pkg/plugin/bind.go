// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Bind writes node and GPUs in one Binding: the apiserver merges its annotations into the pod in the same write that
// sets nodeName. Pods without a request are left to the default binder.
func (pl *Plugin) Bind(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodeName string) *fwk.Status {
	if getCycleState(state) == nil {
		return fwk.NewStatus(fwk.Skip)
	}
	data, err := state.Read(reservedKey)
	if err != nil {
		return fwk.AsStatus(fmt.Errorf("binding without a reservation: %w", err))
	}
	r := data.(*reserved)
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Annotations: r.annotations,
			Labels: map[string]string{berthv1alpha1.LabelAllocated: "true"},
		},
		Target: corev1.ObjectReference{Kind: "Node", Name: nodeName},
	}
	deadline := pl.clock.Now().Add(pl.args.BindTimeout.Duration)
	err = pl.bind(ctx, binding)
	switch {
	case err == nil:
	case apierrors.IsConflict(err):
		// Bound already, perhaps by an attempt of ours whose answer was lost, or not to be bound at all.
		if bound, readErr := pl.isBound(ctx, pod, nodeName); readErr == nil && bound {
			err = nil
		}
	case !isRefusal(err):
		// Nobody knows whether it took effect; look, and keep the booking until that is known.
		err = pl.readBack(ctx, pod, nodeName, deadline, err)
	}
	if err != nil {
		return fwk.AsStatus(err)
	}
	pl.plans.bound(pod.UID, pl.metrics, pl.clock.Now())
	pl.event(pod, nil, corev1.EventTypeNormal, eventAllocated, actionAllocate, r.message)
	return nil
}

// bind sends the Binding, with a deadline for the server too, so that none takes effect long after it was given up.
func (pl *Plugin) bind(ctx context.Context, binding *corev1.Binding) error {
	ctx, cancel := context.WithTimeout(ctx, pl.args.BindTimeout.Duration)
	defer cancel()
	if cacher := pl.handle.APICacher(); cacher != nil {
		onFinish, err := cacher.BindPod(binding)
		if err != nil {
			return err
		}
		return cacher.WaitOnFinish(ctx, onFinish)
	}
	client := pl.handle.ClientSet().CoreV1().RESTClient()
	return client.Post().Namespace(binding.Namespace).Resource("pods").Name(binding.Name).SubResource("binding").
		Timeout(pl.args.BindTimeout.Duration).MaxRetries(0).Body(binding).Do(ctx).Error()
}

// isRefusal says whether the apiserver certainly did not bind: a 4xx that is not a timeout or a demand to come back.
func isRefusal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500 && !apierrors.IsTimeout(err) && !apierrors.IsTooManyRequests(err) && code != 408
}

// readBack finds out whether a Binding took effect whose answer was lost. If the pod is bound as reserved, that is
// success. If it cannot be told yet, the booking becomes Unknown, and a goroutine settles it: until then the pod is
// not tried again.
func (pl *Plugin) readBack(ctx context.Context, pod *corev1.Pod, nodeName string, deadline time.Time, bindErr error) error {
	if bound, err := pl.isBound(ctx, pod, nodeName); err == nil && bound {
		return nil
	}
	pl.tracker.Ledger.MarkUnknown(pod.UID)
	// Not the cycle's context: it ends with the binding.
	go pl.resolveUnknown(context.WithoutCancel(ctx), pod, nodeName, deadline)
	return fmt.Errorf("the outcome of binding to %s is not known: %w", nodeName, bindErr)
}

// bindGrace is how long after its deadline a Binding request is given to take effect before a read of the pod is
// believed that it did not.
const bindGrace = time.Second

// resolveUnknown reads the pod after the deadline of its Binding, until the apiserver answers.
func (pl *Plugin) resolveUnknown(ctx context.Context, pod *corev1.Pod, nodeName string, deadline time.Time) {
	logger := klog.FromContext(ctx)
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 8, Cap: 10 * time.Second, Jitter: 0.1}
	pl.sleepUntil(deadline.Add(bindGrace))
	for {
		if e := pl.tracker.Ledger.Get(pod.UID); e == nil || e.State != gpustate.Unknown {
			break // the informer told first
		}
		bound, err := pl.isBound(ctx, pod, nodeName)
		if err == nil {
			if !bound {
				pl.tracker.Ledger.Refute(pod.UID)
			}
			logger.V(2).Info("Found out whether a pod was bound", "pod", klog.KObj(pod), "node", nodeName, "bound", bound)
			break
		}
		logger.V(2).Info("Cannot find out yet whether a pod was bound", "pod", klog.KObj(pod), "node", nodeName, "err", err)
		pl.sleepUntil(pl.clock.Now().Add(backoff.Step()))
	}
	pl.nodeChanged(nodeName)
	pl.activate([]*waitingPod{{pod: pod}})
}

// isBound reads whether the pod is bound; it confirms the booking that it finds. A pod that is gone is not bound.
func (pl *Plugin) isBound(ctx context.Context, pod *corev1.Pod, nodeName string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, pl.args.BindTimeout.Duration)
	defer cancel()
	got, err := pl.handle.ClientSet().CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	case got.UID != pod.UID || got.Spec.NodeName == "":
		return false, nil
	}
	pl.tracker.PodSeen(got)
	if got.Spec.NodeName != nodeName {
		return false, fmt.Errorf("the pod is bound to %s, not to %s", got.Spec.NodeName, nodeName)
	}
	return true, nil
}

func (pl *Plugin) sleepUntil(t time.Time) {
	if d := t.Sub(pl.clock.Now()); d > 0 {
		timer := pl.clock.(interface {
			After(time.Duration) <-chan time.Time
		}).After(d)
		<-timer
	}
}
