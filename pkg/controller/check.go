// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/controller/podcheck"
	"github.com/berth-dev/berth/pkg/gpunode"
)

const (
	// confirmedAfter is how long something must be seen before an Event tells of it.
	confirmedAfter = 2 * time.Second
	// repeatedAfter is when an Event tells of it again while it lasts: before the API server forgets the first.
	repeatedAfter = 30 * time.Minute
	// staleRetry is when it is looked again whether an agent that was silent reports again.
	staleRetry = time.Minute
	// defaultLease is how long a Lease holds that does not say it.
	defaultLease = time.Minute
)

// checkReconciler compares the report of each node with what its pods were given. It tells the pods' owners, and writes
// into the report which forms of the hand-off the pods have shown to work.
type checkReconciler struct {
	client client.Client
	// live reads past the cache, which has no Leases.
	live     client.Reader
	recorder events.EventRecorder
	clock    clock.PassiveClock
	margin   uint64

	mu sync.Mutex
	// findings are what is wrong now, by node.
	findings map[string]map[findingKey]finding
}

type findingKey struct {
	pod            types.UID
	reason, device string
}

// finding is since when something is wrong, and when its pod's owner was last told.
type finding struct{ since, toldAt time.Time }

// Reconcile implements reconcile.Reconciler for GPUNodes.
func (r *checkReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := &gpunode.Object{}
	if err := r.client.Get(ctx, req.NamespacedName, object, client.UnsafeDisableDeepCopy); err != nil {
		r.swap(req.Name, nil)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if object.Status == nil { // the peak reconciler logs why
		r.swap(req.Name, nil)
		return ctrl.Result{}, nil
	}
	var list corev1.PodList
	if err := r.client.List(ctx, &list, client.MatchingFields{indexNode: req.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("pods of node %s: %w", req.Name, err)
	}
	pods := make([]*corev1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	next, err := r.checkPods(ctx, object, pods)
	if err != nil {
		return ctrl.Result{}, err
	}
	at, err := r.checkForms(ctx, object, pods)
	if err != nil {
		return ctrl.Result{}, err
	}
	if next = podcheck.Earliest(next, at); next.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(next.Sub(r.clock.Now()), time.Second)}, nil
}

// checkPods tells what is wrong with the pods of a node. It returns when to look again; the zero time for never.
func (r *checkReconciler) checkPods(ctx context.Context, node *gpunode.Object, pods []*corev1.Pod) (next time.Time, err error) {
	now, before, after := r.clock.Now(), r.swap(node.Name, nil), map[findingKey]finding{}
	defer func() { r.swap(node.Name, after) }()
	fresh := sync.OnceValues(func() (bool, error) { return isFresh(ctx, r.live, node.Name, now) })
	for _, pod := range pods {
		found, at := podcheck.Check(pod, node.Status, r.margin, now)
		next = podcheck.Earliest(next, at)
		for _, f := range found {
			key := findingKey{pod.UID, f.Reason, f.Device}
			known, seen := before[key]
			if !seen || now.Before(known.since) {
				known = finding{since: now}
			}
			due := known.since.Add(confirmedAfter)
			if !known.toldAt.IsZero() {
				due = known.toldAt.Add(repeatedAfter)
			}
			if !now.Before(due) {
				ok, freshErr := fresh()
				err, due = freshErr, now.Add(staleRetry)
				if ok {
					r.tell(ctx, node.Name, pod, &f, known.toldAt.IsZero())
					known.toldAt, due = now, now.Add(repeatedAfter)
				}
			}
			after[key] = known
			next = podcheck.Earliest(next, due)
		}
	}
	return next, err
}

func (r *checkReconciler) swap(node string, after map[findingKey]finding) (before map[findingKey]finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.findings[node]
	if len(after) == 0 {
		delete(r.findings, node)
		return before
	}
	if r.findings == nil {
		r.findings = map[string]map[findingKey]finding{}
	}
	r.findings[node] = after
	return before
}

// isFresh says whether the node's agent lives, so that its report is still what it sees: of an old one nobody is told. A
// node without a Lease has an agent that renews none, as in a lab.
func isFresh(ctx context.Context, live client.Reader, node string, now time.Time) (bool, error) {
	lease := &coordinationv1.Lease{}
	err := live.Get(ctx, types.NamespacedName{Namespace: berthv1alpha1.Namespace, Name: node}, lease)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("lease of the agent of node %s: %w", node, err)
	}
	holds := defaultLease
	if s := lease.Spec.LeaseDurationSeconds; s != nil {
		holds = time.Duration(*s) * time.Second
	}
	return lease.Spec.RenewTime != nil && now.Sub(lease.Spec.RenewTime.Time) <= holds, nil
}

// tell writes an Event on a pod. Events of one reason about two GPUs differ in what they are related to, so that neither
// is counted as the other.
func (r *checkReconciler) tell(ctx context.Context, node string, pod *corev1.Pod, f *podcheck.Finding, isNew bool) {
	if isNew {
		podDeviations.WithLabelValues(f.Reason).Inc()
	}
	ctrl.LoggerFrom(ctx).Info("Pod deviates from its allocation",
		"pod", client.ObjectKeyFromObject(pod), "reason", f.Reason, "device", f.Device, "message", f.Note)
	related := &corev1.ObjectReference{APIVersion: berthv1alpha1.GroupVersion.String(), Kind: gpunode.Kind, Name: node}
	if f.Device != "" {
		related.FieldPath = "status.devices{" + f.Device + "}"
	}
	r.recorder.Eventf(pod, related, corev1.EventTypeWarning, f.Reason, "CheckAllocation", "%s", eventnote.Fit(f.Note))
}

// checkForms writes into the report what the node's pods have shown of each form, when that is something else than it
// has. It returns when to look again; the zero time for never.
func (r *checkReconciler) checkForms(ctx context.Context, node *gpunode.Object, pods []*corev1.Pod) (time.Time, error) {
	shown, next := podcheck.Shown(node.Status, pods, r.clock.Now())
	var before []berthv1alpha1.ShownForm
	if h := node.Status.HandOff; h != nil {
		before = h.Shown
	}
	if len(shown) == 0 && len(before) == 0 || equality.Semantic.DeepEqual(before, shown) {
		return next, nil
	}
	// Nobody else writes this list, and the rest of the report is not touched. Null takes it away.
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"handOff": map[string]any{"shown": shown}}})
	if err != nil {
		return next, fmt.Errorf("encode forms: %w", err)
	}
	target := &gpunode.Object{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
	if err := r.client.Status().Patch(ctx, target, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return next, client.IgnoreNotFound(fmt.Errorf("write forms of node %s: %w", node.Name, err))
	}
	return next, nil
}
