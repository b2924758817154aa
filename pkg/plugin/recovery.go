// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// recovery makes the books right before the first pod of a term is placed. A scheduler that waited for its lease
// with warm informers may lack the last Bindings of the leader before it; whoever plans on such books gives the same
// memory away twice. (A scheduler that loses its lease exits, so a process has at most one term.)
type recovery struct {
	mu   sync.Mutex
	done bool
}

// made says whether a pod was tried in this term: only a leader tries any.
func (r *recovery) made() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done
}

var errNotSynced = errors.New("the informers of " + Name + " have not synced yet; are the CRDs of " + berthv1alpha1.GroupName + " installed?")

// recoveryTimeout bounds one attempt; the pod is retried, with backoff, after a failure.
const recoveryTimeout = 30 * time.Second

// ensure waits until the informers have synced and books every bound Berth pod of one consistent LIST. Whatever the
// informer has not told yet counts from then on as a booking that is not confirmed.
func (r *recovery) ensure(ctx context.Context, pl *Plugin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), pl.synced...) {
		return errNotSynced
	}
	start := pl.clock.Now()
	recovered, late := 0, 0
	err := pl.eachBoundPod(ctx, func(pod *corev1.Pod) {
		recovered++
		if pl.tracker.Ledger.Get(pod.UID) == nil {
			late++
			pl.recoverPod(ctx, pod)
		}
	})
	if err != nil {
		return fmt.Errorf("reading the bound pods before the first placement: %w", err)
	}
	r.done = true
	klog.FromContext(ctx).Info("Recovered the bookings", "pods", recovered, "aheadOfInformer", late, "took", pl.clock.Now().Sub(start))
	return nil
}

// eachBoundPod calls f for each bound pod of this scheduler, as of one consistent read.
func (pl *Plugin) eachBoundPod(ctx context.Context, f func(*corev1.Pod)) error {
	selector := fields.AndSelectors(
		fields.OneTermEqualSelector("spec.schedulerName", pl.handle.ProfileName()),
		fields.OneTermNotEqualSelector("spec.nodeName", ""),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
	)
	p := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return pl.handle.ClientSet().CoreV1().Pods(metav1.NamespaceAll).List(ctx, opts)
	})
	return p.EachListItem(ctx, metav1.ListOptions{FieldSelector: selector.String()}, func(obj runtime.Object) error {
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
	go pl.resolveUnknown(context.WithoutCancel(ctx), pod, pod.Spec.NodeName, pl.clock.Now())
}
