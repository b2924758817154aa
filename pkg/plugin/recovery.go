// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// recovery makes the books right before the first pod of a term is placed. A scheduler that waited for its lease
// with warm informers may lack the last Bindings of the leader before it; whoever plans on such books gives the same
// memory away twice. (A scheduler that loses its lease ends, so a process has at most one term.) It is done beside the
// scheduling loop, which has other pods to place meanwhile.
type recovery struct {
	done atomic.Bool
	// failure is why the last attempt failed.
	failure atomic.Pointer[string]
}

// underWay says whether the books are still being read, or will be once this process leads, and nothing has failed yet.
// What has is for the pods' owners to know, see pending.
func (r *recovery) underWay() bool { return !r.done.Load() && r.failure.Load() == nil }

// pending returns why the books are not right yet; empty if they are.
func (r *recovery) pending() string {
	if r.done.Load() {
		return ""
	}
	if why := r.failure.Load(); why != nil {
		return string(gpustate.ReasonRecovering) + ": " + *why
	}
	return string(gpustate.ReasonRecovering)
}

var errNotSynced = errors.New("the informers of " + Name + " have not synced yet; are the CRDs of " + berthv1alpha1.GroupName + " installed?")

const (
	// syncTimeout is how long the informers are waited for before it is said, and recoveryTimeout bounds an attempt.
	syncTimeout     = 5 * time.Second
	recoveryTimeout = 30 * time.Second
)

// takeOver makes the books right once this process leads, then retries the pods that waited for it, and looks after
// what makes the apiserver refuse older leaders until ctx ends.
func (pl *Plugin) takeOver(ctx context.Context) {
	select {
	case <-pl.leader.Elected():
	case <-ctx.Done():
		return
	}
	logger := klog.FromContext(ctx)
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 8, Cap: 10 * time.Second, Jitter: 0.1}
	for {
		err := pl.recoverBooks(ctx)
		switch {
		case err == nil:
			pl.recovery.done.Store(true)
			pl.wake.Activate(pl.parked.All())
			for _, node := range pl.tracker.Ledger.Nodes() {
				pl.faults.WatchBookings(node)
			}
			pl.term.Keep(ctx)
			return
		case ctx.Err() != nil:
			return
		}
		why := err.Error()
		if pl.recovery.failure.Swap(&why) == nil {
			pl.wake.Activate(pl.parked.All()) // they were kept out of the queue, and are told now
		}
		logger.Error(err, "No pod that asks for GPU memory is placed yet")
		if errors.Is(err, errNotSynced) {
			continue // it was waited for
		}
		select {
		case <-pl.clock.After(backoff.Step()):
		case <-ctx.Done():
			return
		}
	}
}

// recoverBooks waits until the informers have synced, makes the apiserver refuse older leaders, and books every bound Berth
// pod of one consistent LIST. Whatever the informer has not told yet counts from then on as a booking that is not
// confirmed.
func (pl *Plugin) recoverBooks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	syncing, cancelSync := context.WithTimeout(ctx, syncTimeout)
	defer cancelSync()
	if !cache.WaitForCacheSync(syncing.Done(), pl.synced...) {
		return errNotSynced
	}
	start := pl.clock.Now()
	if err := pl.term.Begin(ctx); err != nil {
		return err
	}
	recovered, late := 0, 0
	err := pl.eachBoundPod(ctx, func(pod *corev1.Pod) {
		recovered++
		if e := pl.tracker.Ledger.Get(pod.UID); e == nil || e.State == gpustate.Claimed {
			late++
			pl.recoverPod(ctx, pod)
		}
	})
	if err != nil {
		return fmt.Errorf("reading the bound pods before the first placement: %w", err)
	}
	klog.FromContext(ctx).Info("Recovered the bookings", "pods", recovered, "aheadOfInformer", late, "took", pl.clock.Now().Sub(start))
	return nil
}

// eachBoundPod calls f for each pod that was given GPU memory, as of one consistent read: whatever scheduler it names,
// since the profile may have had another name before.
func (pl *Plugin) eachBoundPod(ctx context.Context, f func(*corev1.Pod)) error {
	selector := fields.AndSelectors(
		fields.OneTermNotEqualSelector("spec.nodeName", ""),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	)
	p := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return pl.handle.ClientSet().CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
	})
	opts := metav1.ListOptions{FieldSelector: selector.String(), LabelSelector: berthv1alpha1.LabelAllocated + "=true"}
	return p.EachListItem(ctx, opts, func(obj runtime.Object) error {
		f(obj.(*corev1.Pod))
		return nil
	})
}

// recoverPod books a pod that the LIST had and the informer did not tell of: it is late, or the pod is gone already
// and the informer will never tell. So the booking is Unknown, not Confirmed, and a read settles it.
func (pl *Plugin) recoverPod(ctx context.Context, pod *corev1.Pod) {
	a, err := gpustate.BookingOf(pod)
	if a == nil && err == nil {
		return
	}
	if err := pl.tracker.Ledger.Assume(pod, pod.Spec.NodeName, a); err != nil {
		return // the informer was quicker
	}
	pl.tracker.Ledger.MarkUnknown(pod.UID)
	go pl.resolveUnknown(context.WithoutCancel(ctx), pod, pod.Spec.NodeName, pl.clock.Now(), func() {})
}
