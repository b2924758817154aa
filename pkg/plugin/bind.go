// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/history"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// Bind writes node and GPUs in one Binding: the apiserver merges its annotations into the pod in the same write that
// sets nodeName. Pods without a request are left to the default binder.
func (pl *Plugin) Bind(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodeName string) *fwk.Status {
	if cycle.Of(state) == nil {
		return fwk.NewStatus(fwk.Skip)
	}
	data, err := state.Read(reservedKey)
	if err != nil {
		return fwk.AsStatus(fmt.Errorf("binding without a reservation: %w", err))
	}
	if claims, err := pl.resourceClaims.HoldGPU(pod); err != nil {
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
	if err := pl.bind(ctx, pod, binding); err != nil {
		pl.world.History.NotBound(ctx, pod, nodeName, pl.whyNotBound(pod, err), err)
		return fwk.AsStatus(err)
	}
	pl.world.History.Bound(ctx, pod, nodeName, r.allocation.Devices, after(r.claim))
	pl.follow.Bound(r.claim)
	pl.announcer.Placed(ctx, pod, r.message)
	return nil
}

// bind sends the Binding, if this process is sure to lead for as long as it may take. An error is a definite "not
// bound" unless it marks the booking Unknown.
//
// It is a request of its own, with a deadline for the server too, so that none takes effect long after it was given
// up; never a call of the framework's queue (SchedulerAsyncAPICalls), which has no deadline.
func (pl *Plugin) bind(ctx context.Context, pod *corev1.Pod, binding *corev1.Binding) error {
	client := pl.handle.ClientSet().CoreV1().RESTClient()
	// The turn is waited for before the deadline starts: who has none has sent nothing.
	if err := waitForTurn(ctx, client); err != nil {
		return fmt.Errorf("not bound, nothing was sent: %w", err)
	}
	timeout := pl.args.BindTimeout.Duration
	end, err := pl.leader.Begin(timeout)
	if err != nil {
		return fmt.Errorf("not bound, nothing was sent: %w", err)
	}
	if holder := pl.term.Holder(); holder != "" {
		binding.Annotations = maps.Clone(binding.Annotations)
		binding.Annotations[berthv1alpha1.AnnotationBoundBy] = holder
	}
	sent := pl.clock.Now()
	// A scheduler that is told to end lets it end: cut short, nobody would know what became of it.
	request, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	err = client.Post().Namespace(binding.Namespace).Resource("pods").Name(binding.Name).SubResource("binding").
		Timeout(timeout).Throttle(nil).MaxRetries(0).Body(binding).Do(request).Error()
	cancel()
	switch {
	case err == nil:
		end()
		return nil
	case apierrors.IsConflict(err):
		end()
		// Bound already, perhaps by an attempt of ours whose answer was lost.
		return pl.readBack(ctx, pod, binding, sent, err, func() {})
	case isRefusal(err):
		end()
		if apierrors.IsForbidden(err) {
			pl.term.Refused() // perhaps by the policy, since somebody changed the LeaderTerm
		}
		return err
	}
	return pl.readBack(ctx, pod, binding, sent, err, end) // nobody knows whether it took effect
}

// waitForTurn waits for the client's own limit of requests. A request after it says Throttle(nil), not to wait twice.
func waitForTurn(ctx context.Context, client rest.Interface) error {
	if limiter := client.GetRateLimiter(); limiter != nil {
		return limiter.Wait(ctx)
	}
	return nil
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
// not tried again. end is called once the request can have no effect any more.
func (pl *Plugin) readBack(ctx context.Context, pod *corev1.Pod, binding *corev1.Binding, sent time.Time, bindErr error, end func()) error {
	nodeName := binding.Target.Name
	bound, err := pl.readBound(ctx, pod)
	switch {
	case err == nil && bound != nil && bound.Spec.NodeName == nodeName &&
		bound.Annotations[berthv1alpha1.AnnotationAllocation] == binding.Annotations[berthv1alpha1.AnnotationAllocation]:
		end()
		return nil
	case err == nil && bound == nil && apierrors.IsConflict(bindErr):
		end()
		return bindErr // refused for another reason, such as being deleted
	case err == nil && bound != nil && gpustate.LacksAllocation(bound):
		end()
		return bindErr // somebody else bound it, and it is bound once
	}
	pl.tracker.Ledger.MarkUnknown(pod.UID)
	// Not the cycle's context: it ends with the binding.
	ctx = context.WithoutCancel(ctx)
	go func() {
		if e := pl.resolveUnknown(ctx, pod, nodeName, pl.lastEffect(sent), end); e != nil && e.Node == nodeName && e.Allocation != nil {
			pl.world.History.Bound(ctx, pod, nodeName, e.Allocation.Devices, history.AfterUnknown)
		}
	}()
	return fmt.Errorf("the outcome of binding to %s is not known: %w", nodeName, bindErr)
}

// bindGrace is how long after a Binding request can have its last effect a read of the pod is believed that it had none.
const bindGrace = time.Second

// lastEffect is when a Binding that was sent can take effect at the latest. Its client gives up after bindTimeout; but
// the server counts its own deadline, of the same length, from when the request arrived, and that may have been just
// before. (What arrives even later, from the buffer of a machine that stood still, is refused by the leader's term.)
func (pl *Plugin) lastEffect(sent time.Time) time.Time {
	return sent.Add(2 * pl.args.BindTimeout.Duration)
}

// resolveUnknown reads the pod after the last moment at which its Binding can take effect, until the informer tells
// that it is bound, or a read tells that it is not. A read that finds it bound settles nothing: the pod may be deleted
// before the informer had it, and then nobody would ever take the booking back. It returns the booking of a pod that is
// bound.
func (pl *Plugin) resolveUnknown(ctx context.Context, pod *corev1.Pod, nodeName string, last time.Time, end func()) (bound *gpustate.Entry) {
	logger := klog.FromContext(ctx)
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 8, Cap: 10 * time.Second, Jitter: 0.1}
	pl.sleepUntil(last.Add(bindGrace))
	end()
	for {
		if e := pl.tracker.Ledger.Get(pod.UID); e == nil || e.State != gpustate.Unknown {
			if e != nil && e.State == gpustate.Confirmed {
				bound = e
			}
			break // the informer told first
		}
		read, err := pl.readBound(ctx, pod)
		if err == nil && (read == nil || gpustate.LacksAllocation(read)) {
			pl.tracker.Ledger.Refute(pod.UID)
			logger.V(2).Info("A binding whose outcome was not known did not happen", "pod", klog.KObj(pod), "node", nodeName)
			break
		}
		logger.V(2).Info("The outcome of a binding is not settled yet", "pod", klog.KObj(pod), "node", nodeName, "bound", read != nil, "err", err)
		pl.sleepUntil(pl.clock.Now().Add(backoff.Step()))
	}
	pl.wake.NodeChanged(nodeName)
	pl.wake.Activate([]*parked.Pod{{Pod: pod}})
	return bound
}

// readBound returns the pod as the apiserver has it now if it is bound, else nil: a pod that is gone is not bound.
func (pl *Plugin) readBound(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	client := pl.handle.ClientSet().CoreV1().RESTClient()
	if err := waitForTurn(ctx, client); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pl.args.BindTimeout.Duration)
	defer cancel()
	got := &corev1.Pod{}
	err := client.Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).Throttle(nil).Do(ctx).Into(got)
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
