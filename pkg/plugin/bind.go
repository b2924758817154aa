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
	if claims, err := pl.holdsGPU(pod); err != nil {
		return fwk.AsStatus(err)
	} else if claims { // what it claims was not known to be a GPU before it was allocated
		return rejected(fwk.Unschedulable, gpustate.ReasonClaimsGPU)
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
	case apierrors.IsConflict(err), !isRefusal(err):
		// Bound already, perhaps by an attempt of ours whose answer was lost; or nobody knows whether it took effect.
		err = pl.readBack(ctx, pod, binding, deadline, err)
	}
	if err != nil {
		return fwk.AsStatus(err)
	}
	pl.planBound(pod)
	pl.announcer.placed(ctx, pod, r.message)
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

// readBack finds out what became of a Binding whose answer does not say. If the pod is bound as reserved, that is
// success. If it cannot be told yet, the booking becomes Unknown, and a goroutine settles it: until then the pod is
// not tried again.
func (pl *Plugin) readBack(ctx context.Context, pod *corev1.Pod, binding *corev1.Binding, deadline time.Time, bindErr error) error {
	nodeName := binding.Target.Name
	bound, err := pl.readBound(ctx, pod)
	switch {
	case err == nil && bound != nil && bound.Spec.NodeName == nodeName &&
		bound.Annotations[berthv1alpha1.AnnotationAllocation] == binding.Annotations[berthv1alpha1.AnnotationAllocation]:
		return nil
	case err == nil && bound == nil && apierrors.IsConflict(bindErr):
		return bindErr // refused for another reason, such as being deleted
	}
	pl.tracker.Ledger.MarkUnknown(pod.UID)
	// Not the cycle's context: it ends with the binding.
	go pl.resolveUnknown(context.WithoutCancel(ctx), pod, nodeName, deadline)
	return fmt.Errorf("the outcome of binding to %s is not known: %w", nodeName, bindErr)
}

// bindGrace is how long after its deadline a Binding request is given to take effect before a read of the pod is
// believed that it did not.
const bindGrace = time.Second

// resolveUnknown reads the pod after the deadline of its Binding, until the informer tells that it is bound, or a read
// tells that it is not. A read that finds it bound settles nothing: the pod may be deleted before the informer had it,
// and then nobody would ever take the booking back.
func (pl *Plugin) resolveUnknown(ctx context.Context, pod *corev1.Pod, nodeName string, deadline time.Time) {
	logger := klog.FromContext(ctx)
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 8, Cap: 10 * time.Second, Jitter: 0.1}
	pl.sleepUntil(deadline.Add(bindGrace))
	for {
		if e := pl.tracker.Ledger.Get(pod.UID); e == nil || e.State != gpustate.Unknown {
			break // the informer told first
		}
		bound, err := pl.readBound(ctx, pod)
		if err == nil && bound == nil {
			pl.tracker.Ledger.Refute(pod.UID)
			logger.V(2).Info("A binding whose outcome was not known did not happen", "pod", klog.KObj(pod), "node", nodeName)
			break
		}
		logger.V(2).Info("The outcome of a binding is not settled yet", "pod", klog.KObj(pod), "node", nodeName, "bound", bound != nil, "err", err)
		pl.sleepUntil(pl.clock.Now().Add(backoff.Step()))
	}
	pl.nodeChanged(nodeName)
	pl.activate([]*waitingPod{{pod: pod}})
}

// readBound returns the pod as the apiserver has it now if it is bound, else nil: a pod that is gone is not bound.
func (pl *Plugin) readBound(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, pl.args.BindTimeout.Duration)
	defer cancel()
	got, err := pl.handle.ClientSet().CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case got.UID != pod.UID || got.Spec.NodeName == "":
		return nil, nil
	}
	return got, nil
}

func (pl *Plugin) sleepUntil(t time.Time) {
	if d := t.Sub(pl.clock.Now()); d > 0 {
		<-pl.clock.After(d)
	}
}
