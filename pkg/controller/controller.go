// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// Options are what an admin can choose. DefaultOptions has the defaults.
type Options struct {
	// ProfileTTL is how long a profile is kept that no pod names, FailedProfileTTL one whose model never was known or that
	// no peaks were measured of.
	ProfileTTL, FailedProfileTTL time.Duration
	// RefreshInterval is how often the source of a profile in use is asked whether the model changed.
	RefreshInterval time.Duration
	// ResolveTimeout bounds one look-up, all its requests and retries included.
	ResolveTimeout time.Duration
	// Concurrency is how many models are looked up at once; see turns.
	Concurrency int
	// ProfilesPerNamespace is how many profiles are made for the pods of one namespace.
	ProfilesPerNamespace int
	// OveruseMargin is by how many bytes a pod may exceed its booking on a device before its owner is told.
	OveruseMargin uint64
	// PodMetrics adds a metric of what each pod has booked.
	PodMetrics bool
	// GPUMemoryResource makes nodes advertise their GPU memory as the resource berth.dev/gpu-memory. Headroom is what of each
	// GPU they leave out, in bytes: the scheduler's argument of that name.
	GPUMemoryResource bool
	Headroom          uint64
	// Clock is time; default: the real one.
	Clock clock.PassiveClock
}

// DefaultOptions returns the defaults: a profile is worth keeping for the peaks in it.
func DefaultOptions() Options {
	return Options{
		ProfileTTL:           30 * 24 * time.Hour,
		FailedProfileTTL:     time.Hour,
		RefreshInterval:      6 * time.Hour,
		ResolveTimeout:       3 * time.Minute,
		Concurrency:          8,
		ProfilesPerNamespace: 100,
		OveruseMargin:        256 << 20,
		Headroom:             256 << 20,
		Clock:                clock.RealClock{},
	}
}

// recorderName is the reportingController of the Events.
const recorderName = "berth-controller"

// Add adds the controller to a manager whose cache was made with CacheOptions.
func Add(mgr ctrl.Manager, resolver Resolver, o Options) error {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if err := registerMetrics(); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	if err := addIndices(mgr); err != nil {
		return err
	}
	c := mgr.GetClient()
	status := statusWriter{client: c, live: mgr.GetAPIReader()}

	pods := &podReconciler{
		client: c, tell: newAnnouncer(mgr.GetEventRecorder(recorderName), o.Clock), profilesPerNamespace: o.ProfilesPerNamespace,
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("pod").
		For(&corev1.Pod{}, builder.WithPredicates(podNeedsLook())).
		Watches(&berthv1alpha1.ModelProfile{}, handler.EnqueueRequestsFromMapFunc(podsOf(c)), builder.WithPredicates(readinessChanged())).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(pods)
	if err != nil {
		return fmt.Errorf("add the pod controller: %w", err)
	}

	profiles := &profileReconciler{client: c, status: status, resolver: resolver, clock: o.Clock, options: o, turns: newTurns(max(o.Concurrency, 1))}
	err = ctrl.NewControllerManagedBy(mgr).
		Named("modelprofile").
		For(&berthv1alpha1.ModelProfile{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(profileOf), builder.WithPredicates(useChanged())).
		WatchesRawSource(ctrlsource.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			profiles.turns.wake = func(name string) { queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}) }
			return nil
		})).
		// Those without a turn are done in no time, and must not wait for those that have one.
		WithOptions(controller.Options{MaxConcurrentReconciles: profiles.turns.total + 2}).
		Complete(profiles)
	if err != nil {
		return fmt.Errorf("add the profile controller: %w", err)
	}

	peaks := &peakReconciler{client: c, status: status, clock: o.Clock, ratios: ratios{}}
	err = ctrl.NewControllerManagedBy(mgr).
		Named("peak").
		For(&gpunode.Object{}).
		// The report may be older than the pod's readiness, and need not change after it.
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(nodeOf), builder.WithPredicates(becameReady())).
		Complete(peaks)
	if err != nil {
		return fmt.Errorf("add the peak controller: %w", err)
	}
	if err := addCheck(mgr, &o); err != nil {
		return err
	}
	if err := addCondition(mgr, &o); err != nil {
		return err
	}
	return addResource(mgr, &o)
}

// addIndices makes cached pods findable by their profile and by their UID, and profiles by whom they were made for.
func addIndices(mgr ctrl.Manager) error {
	indexer := mgr.GetFieldIndexer()
	for name, extract := range podIndices {
		if err := indexer.IndexField(context.Background(), &corev1.Pod{}, name, extract); err != nil {
			return fmt.Errorf("index pods by %s: %w", name, err)
		}
	}
	if err := indexer.IndexField(context.Background(), &berthv1alpha1.ModelProfile{}, indexMadeFor, madeFor); err != nil {
		return fmt.Errorf("index profiles by namespace: %w", err)
	}
	return nil
}

var podIndices = map[string]client.IndexerFunc{
	indexProfile: func(obj client.Object) []string {
		return profileNamesOf(obj.(*corev1.Pod))
	},
	indexUID:  func(obj client.Object) []string { return []string{string(obj.GetUID())} },
	indexNode: func(obj client.Object) []string { return []string{obj.(*corev1.Pod).Spec.NodeName} },
}

// podNeedsLook leaves out the updates of pods that change nothing that the pod reconciler reads.
func podNeedsLook() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
		return before.UID != after.UID || profileNameOf(before) != profileNameOf(after) || isGated(before) != isGated(after)
	}}
}

// useChanged leaves the events through by which a profile comes into use or out of it.
func useChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return profileNameOf(e.ObjectOld.(*corev1.Pod)) != profileNameOf(e.ObjectNew.(*corev1.Pod))
	}}
}

// readinessChanged leaves the events through by which waiting pods have something new to be told, or need the
// profile made again.
func readinessChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*berthv1alpha1.ModelProfile), e.ObjectNew.(*berthv1alpha1.ModelProfile)
		return before.UID != after.UID || !equality.Semantic.DeepEqual(before.ReadyCondition(), after.ReadyCondition())
	}}
}

// becameReady leaves the events through after which what a pod holds counts.
func becameReady() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*corev1.Pod), e.ObjectNew.(*corev1.Pod)
			return readySince(before).IsZero() && !readySince(after).IsZero()
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
}

// nodeOf returns the GPUNode of the node that a pod with a model runs on.
func nodeOf(_ context.Context, obj client.Object) []reconcile.Request {
	pod := obj.(*corev1.Pod)
	if pod.Spec.NodeName == "" || profileNameOf(pod) == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: pod.Spec.NodeName}}}
}

// podsOf returns the pods that name a profile's model.
func podsOf(c client.Client) handler.MapFunc {
	return func(ctx context.Context, profile client.Object) []reconcile.Request {
		var pods corev1.PodList
		// The cache is local; the only error is a missing index, which addIndices would have reported.
		if err := c.List(ctx, &pods, client.MatchingFields{indexProfile: profile.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		requests := make([]reconcile.Request, len(pods.Items))
		for i := range pods.Items {
			requests[i].NamespacedName = client.ObjectKeyFromObject(&pods.Items[i])
		}
		return requests
	}
}

// profileOf returns what can be the profile of a pod's model.
func profileOf(_ context.Context, pod client.Object) (requests []reconcile.Request) {
	for _, name := range profileNamesOf(pod.(*corev1.Pod)) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return requests
}
