// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/firstlist"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/requests"
)

// Start feeds the tracker from a cluster. Berth's own objects come through informers of the plugin: the
// framework's dynamic informers would hand over unstructured copies, and run hints that may be ahead of the tracker.
func (f *Feed) Start(ctx context.Context, client rest.Interface) error {
	if err := f.trimFramework(); err != nil {
		return err
	}
	var own []cache.SharedIndexInformer
	err := f.From(func(resource, namespace string, example runtime.Object) cache.SharedIndexInformer {
		from := cache.Getter(client)
		if resource == "leases" {
			from = f.Handle.ClientSet().CoordinationV1().RESTClient()
		}
		own = append(own, NewInformer(from, resource, namespace, example))
		return own[len(own)-1]
	})
	if err != nil {
		return err
	}
	for _, informer := range own {
		go informer.RunWithContext(ctx)
	}
	return nil
}

// From has the tracker told of what happens: through the framework's informers, and those of Berth's own objects that
// informerOf makes.
func (f *Feed) From(informerOf func(resource, namespace string, example runtime.Object) cache.SharedIndexInformer) error {
	pods := f.Handle.SharedInformerFactory().Core().V1().Pods().Informer()
	if err := f.handleEvents(pods, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, _ bool) {
			f.PodSeen(obj.(*corev1.Pod))
			f.Follow.NominationSeen(nil, obj.(*corev1.Pod))
		},
		UpdateFunc: func(old, obj any) {
			// A pod that was deleted and made again between two events is two pods.
			if o, p := old.(*corev1.Pod), obj.(*corev1.Pod); o.UID != p.UID {
				f.PodGone(o)
			}
			f.PodSeen(obj.(*corev1.Pod))
			f.Follow.NominationSeen(old.(*corev1.Pod), obj.(*corev1.Pod))
		},
		DeleteFunc: func(obj any) {
			if pod, ok := deleted[*corev1.Pod](obj); ok {
				f.PodGone(pod)
			}
		},
	}); err != nil {
		return err
	}
	if err := f.watchHandOff(); err != nil {
		return err
	}

	if err := f.watchElsewhere(); err != nil {
		return err
	}

	if err := f.watchDRA(); err != nil {
		return err
	}

	if err := f.WatchReports(informerOf("gpunodes", "", &gpunode.Object{})); err != nil {
		return err
	}

	leases := informerOf("leases", berthv1alpha1.Namespace, &coordinationv1.Lease{})
	if err := f.handleEvents(leases, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) { f.leaseSeen(obj.(*coordinationv1.Lease), !initial) },
		UpdateFunc: func(old, obj any) {
			// Only a renewal proves life: any other write to the Lease may be somebody else's.
			o, n := old.(*coordinationv1.Lease), obj.(*coordinationv1.Lease)
			f.leaseSeen(n, !n.Spec.RenewTime.Equal(o.Spec.RenewTime))
		},
		DeleteFunc: func(obj any) {
			if lease, ok := deleted[*coordinationv1.Lease](obj); ok {
				f.Tracker.LeaseGone(lease.Name)
			}
		},
	}); err != nil {
		return err
	}

	profiles := informerOf("modelprofiles", "", &berthv1alpha1.ModelProfile{})
	f.Wake.Requests.Profiles = requests.Profiles{Store: profiles.GetStore()}
	return f.handleEvents(profiles, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, _ bool) { f.Wake.ProfileSeen(obj.(*berthv1alpha1.ModelProfile)) },
		UpdateFunc: func(_, obj any) { f.Wake.ProfileSeen(obj.(*berthv1alpha1.ModelProfile)) },
	})
}

func (f *Feed) handleEvents(informer cache.SharedIndexInformer, h cache.ResourceEventHandlerDetailedFuncs) error {
	registration, err := informer.AddEventHandler(h)
	if err != nil {
		return err
	}
	f.Synced = append(f.Synced, registration.HasSynced)
	return nil
}

// PodSeen says that a pod is there, or changed.
func (f *Feed) PodSeen(pod *corev1.Pod) {
	bound := pod.Spec.NodeName != ""
	var woken []parked.Change
	if bound {
		f.History.Forget(pod.UID)
		woken = f.Wake.Forget(pod.UID)
		f.Wake.Claims.Forget(pod.UID)
		f.Wake.Requests.Forget(pod.UID)
	}
	f.Tracker.PodSeen(pod)
	f.Mix.Seen(pod)
	f.Warm.Seen(pod)
	f.Wake.PassOn(woken, pod.Spec.NodeName)
	f.Wake.WatchUnreported(pod)
	f.Faults.WatchUnallocated(pod)
	if bound && f.Tracker.Ledger.Get(pod.UID) != nil {
		f.Wake.WatchLoads(pod.Spec.NodeName)
		f.Wake.WatchVictims(pod.Spec.NodeName)
		f.Faults.WatchDevices(pod.Spec.NodeName)
		f.Faults.WatchBookings(pod.Spec.NodeName)
	}
}

// PodGone says that a pod is gone.
func (f *Feed) PodGone(pod *corev1.Pod) {
	woken := f.Wake.Forget(pod.UID)
	f.Wake.Requests.Forget(pod.UID)
	f.Wake.Claims.Gone(pod, f.Clock.Now())
	f.Faults.Forget(pod.UID)
	f.Mix.Gone(pod.UID)
	f.Warm.Gone(pod)
	f.History.Forget(pod.UID)
	if node := f.Tracker.PodGone(pod); node != "" {
		f.Wake.Settle(node)
		f.Faults.WatchBookings(node)
	}
	f.Wake.PassOn(woken, "")
}

func (f *Feed) leaseSeen(lease *coordinationv1.Lease, live bool) {
	var renewed time.Time
	if lease.Spec.RenewTime != nil {
		renewed = lease.Spec.RenewTime.Time
	}
	f.Tracker.LeaseSeen(lease.Name, renewed, live)
	if live {
		f.Wake.AgentLives(lease.Name)
	}
}

// NewInformer returns an informer of a kind that the framework has none of.
func NewInformer(client cache.Getter, resource, namespace string, example runtime.Object) cache.SharedIndexInformer {
	lw := cache.NewListWatchFromClient(client, resource, namespace, fields.Everything())
	informer := cache.NewSharedIndexInformer(lw, example, 0, cache.Indexers{})
	// Errors are possible only once the informer runs.
	_ = informer.SetWatchErrorHandlerWithContext(firstlist.WatchErrorHandler())
	_ = informer.SetTransform(transform)
	return informer
}

// transform prepares an object before it is stored.
func transform(obj any) (any, error) {
	if o, ok := obj.(*gpunode.Object); ok {
		return gpunode.Transform(o)
	}
	if p, ok := obj.(*berthv1alpha1.ModelProfile); ok {
		for i := range p.Status.ObservedPeaks {
			p.Status.ObservedPeaks[i].Runs = nil // what they come to stands beside them
		}
	}
	// Field managers are most of a small object, and nobody here reads them.
	if accessor, err := meta.Accessor(obj); err == nil {
		accessor.SetManagedFields(nil)
	}
	return obj, nil
}

// deleted returns the object of a delete event, which may be wrapped when the deletion itself was missed.
func deleted[T any](obj any) (T, bool) {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	t, ok := obj.(T)
	return t, ok
}
