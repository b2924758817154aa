// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package recovery makes the books right before the first pod of a term is placed. A scheduler that waited for its lease with
// warm informers may lack the last Bindings of the leader before it; whoever plans on such books gives the same memory away
// twice. (A scheduler that loses its lease ends, so a process has at most one term.) It is done beside the scheduling loop, which
// waits at the first pod that asks for GPU memory until the books are right or something has failed.
package recovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/wake"
)

// Recovery is that of a process.
type Recovery struct {
	*shared.World
	Wake   *wake.Waker
	Leader *leader.Leader
	// Term makes the apiserver refuse what older leaders sent; it is set before TakeOver.
	Term *leader.Term
	// Synced are the informers that the first cycle waits for.
	Synced []cache.InformerSynced
	// Resolve finds out whether a pod is bound whose Binding can have its last effect at a moment.
	Resolve func(ctx context.Context, pod *corev1.Pod, node string, last time.Time)
	// Recovered is called for each node with bookings when the books are right.
	Recovered func(node string)

	done, synced atomic.Bool
	// failure is why the last attempt failed.
	failure atomic.Pointer[string]

	mu sync.Mutex
	// settled is closed once the books are right, or an attempt has failed; nil while nobody waits for that.
	settled chan struct{}
}

// Done says whether the books are right.
func (r *Recovery) Done() bool { return r.done.Load() }

// SetDone says whether the books are right, where that needs no recovery.
func (r *Recovery) SetDone(done bool) { r.done.Store(done) }

// HaveSynced says whether the informers have told what there was when they began.
func (r *Recovery) HaveSynced() bool {
	if !r.synced.Load() {
		for _, synced := range r.Synced {
			if !synced() {
				return false
			}
		}
		r.synced.Store(true)
	}
	return true
}

// Await waits while a leader reads the books, which takes a second or two, and nothing has failed yet. What has is for the pods'
// owners to know, see Pending. The scheduling loop waits meanwhile, and with it other pods, once in a term. To keep pods out of the
// queue instead would have the framework ask of each of them with every node that it reads when it starts: minutes, on large clusters.
func (r *Recovery) Await(ctx context.Context) {
	select {
	case <-r.Leader.Elected():
	default:
		return
	}
	r.mu.Lock()
	if r.done.Load() || r.failure.Load() != nil {
		r.mu.Unlock()
		return
	}
	if r.settled == nil {
		r.settled = make(chan struct{})
	}
	settled := r.settled
	r.mu.Unlock()
	select {
	case <-settled:
	case <-ctx.Done():
	}
}

// settle ends what waits.
func (r *Recovery) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled != nil {
		close(r.settled)
		r.settled = nil
	}
}

// Pending returns why the books are not right yet; empty if they are.
func (r *Recovery) Pending() string {
	if r.done.Load() {
		return ""
	}
	if why := r.failure.Load(); why != nil {
		return string(gpustate.ReasonRecovering) + ": " + *why
	}
	return string(gpustate.ReasonRecovering)
}

var errNotSynced = errors.New("the informers of " + config.Name + " have not synced yet; are the CRDs of " + berthv1alpha1.GroupName + " installed?")

const (
	// syncTimeout is how long the informers are waited for before it is said, and recoveryTimeout bounds an attempt.
	syncTimeout     = 5 * time.Second
	recoveryTimeout = 30 * time.Second
)

// TakeOver makes the books right once this process leads, then retries the pods that waited for it, and looks after
// what makes the apiserver refuse older leaders until ctx ends.
func (r *Recovery) TakeOver(ctx context.Context) {
	select {
	case <-r.Leader.Elected():
	case <-ctx.Done():
		return
	}
	logger := klog.FromContext(ctx)
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 8, Cap: 10 * time.Second, Jitter: 0.1}
	for {
		err := r.recoverBooks(ctx)
		switch {
		case err == nil:
			r.done.Store(true)
			r.settle()
			r.Wake.Activate(r.Wake.Parked.All())
			for _, node := range r.Tracker.Ledger.Nodes() {
				r.Recovered(node)
			}
			r.Term.Keep(ctx)
			return
		case ctx.Err() != nil:
			return
		}
		why := err.Error()
		r.failure.Store(&why)
		r.settle()
		logger.Error(err, "No pod that asks for GPU memory is placed yet")
		if errors.Is(err, errNotSynced) {
			continue // it was waited for
		}
		select {
		case <-r.Clock.After(backoff.Step()):
		case <-ctx.Done():
			return
		}
	}
}

// recoverBooks waits until the informers have synced, makes the apiserver refuse older leaders, and books every bound Berth
// pod of one consistent LIST. Whatever the informer has not told yet counts from then on as a booking that is not
// confirmed.
func (r *Recovery) recoverBooks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	syncing, cancelSync := context.WithTimeout(ctx, syncTimeout)
	defer cancelSync()
	if !cache.WaitForCacheSync(syncing.Done(), r.Synced...) {
		return errNotSynced
	}
	start := r.Clock.Now()
	if err := r.Term.Begin(ctx); err != nil {
		return err
	}
	recovered, late := 0, 0
	err := r.eachBoundPod(ctx, func(pod *corev1.Pod) {
		recovered++
		if e := r.Tracker.Ledger.Get(pod.UID); e == nil || e.State == gpustate.Claimed {
			late++
			r.recoverPod(ctx, pod)
		}
	})
	if err != nil {
		return fmt.Errorf("reading the bound pods before the first placement: %w", err)
	}
	klog.FromContext(ctx).Info("Recovered the bookings", "pods", recovered, "aheadOfInformer", late, "took", r.Clock.Now().Sub(start))
	return nil
}

// eachBoundPod calls f for each pod that was given GPU memory, as of one consistent read: whatever scheduler it names,
// since the profile may have had another name before.
func (r *Recovery) eachBoundPod(ctx context.Context, f func(*corev1.Pod)) error {
	selector := fields.AndSelectors(
		fields.OneTermNotEqualSelector("spec.nodeName", ""),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	)
	p := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return r.Handle.ClientSet().CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
	})
	opts := metav1.ListOptions{FieldSelector: selector.String(), LabelSelector: berthv1alpha1.LabelAllocated + "=true"}
	return p.EachListItem(ctx, opts, func(obj runtime.Object) error {
		f(obj.(*corev1.Pod))
		return nil
	})
}

// recoverPod books a pod that the LIST had and the informer did not tell of: it is late, or the pod is gone already
// and the informer will never tell. So the booking is Unknown, not Confirmed, and a read settles it.
func (r *Recovery) recoverPod(ctx context.Context, pod *corev1.Pod) {
	a, err := gpustate.BookingOf(pod)
	if a == nil && err == nil {
		return
	}
	if err := r.Tracker.Ledger.Assume(pod, pod.Spec.NodeName, a); err != nil {
		return // the informer was quicker
	}
	r.Tracker.Ledger.MarkUnknown(pod.UID)
	go r.Resolve(context.WithoutCancel(ctx), pod, pod.Spec.NodeName, r.Clock.Now())
}
