// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

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

// startInformers feeds the tracker from a cluster. Berth's own objects come through informers of the plugin: the
// framework's dynamic informers would hand over unstructured copies, and run hints that may be ahead of the tracker.
func (pl *Plugin) startInformers(ctx context.Context, client rest.Interface) error {
	var own []cache.SharedIndexInformer
	err := pl.feed(func(resource, namespace string, example runtime.Object) cache.SharedIndexInformer {
		from := cache.Getter(client)
		if resource == "leases" {
			from = pl.handle.ClientSet().CoordinationV1().RESTClient()
		}
		own = append(own, newInformer(from, resource, namespace, example))
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

// feed has the tracker told of what happens: through the framework's informers, and those of Berth's own objects that
// informerOf makes.
func (pl *Plugin) feed(informerOf func(resource, namespace string, example runtime.Object) cache.SharedIndexInformer) error {
	pods := pl.handle.SharedInformerFactory().Core().V1().Pods().Informer()
	if err := pl.handleEvents(pods, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, _ bool) {
			pl.podSeen(obj.(*corev1.Pod))
			pl.nominationSeen(nil, obj.(*corev1.Pod))
		},
		UpdateFunc: func(old, obj any) {
			// A pod that was deleted and made again between two events is two pods.
			if o, p := old.(*corev1.Pod), obj.(*corev1.Pod); o.UID != p.UID {
				pl.podGone(o)
			}
			pl.podSeen(obj.(*corev1.Pod))
			pl.nominationSeen(old.(*corev1.Pod), obj.(*corev1.Pod))
		},
		DeleteFunc: func(obj any) {
			if pod, ok := deleted[*corev1.Pod](obj); ok {
				pl.podGone(pod)
			}
		},
	}); err != nil {
		return err
	}
	if err := pl.watchHandOff(); err != nil {
		return err
	}

	if err := pl.watchDRA(); err != nil {
		return err
	}

	if err := pl.watchReports(informerOf("gpunodes", "", &gpunode.Object{})); err != nil {
		return err
	}

	leases := informerOf("leases", berthv1alpha1.Namespace, &coordinationv1.Lease{})
	if err := pl.handleEvents(leases, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) { pl.leaseSeen(obj.(*coordinationv1.Lease), !initial) },
		UpdateFunc: func(old, obj any) {
			// Only a renewal proves life: any other write to the Lease may be somebody else's.
			o, n := old.(*coordinationv1.Lease), obj.(*coordinationv1.Lease)
			pl.leaseSeen(n, !n.Spec.RenewTime.Equal(o.Spec.RenewTime))
		},
		DeleteFunc: func(obj any) {
			if lease, ok := deleted[*coordinationv1.Lease](obj); ok {
				pl.tracker.LeaseGone(lease.Name)
			}
		},
	}); err != nil {
		return err
	}

	profiles := informerOf("modelprofiles", "", &berthv1alpha1.ModelProfile{})
	pl.requests.Profiles = requests.Profiles{Store: profiles.GetStore()}
	return pl.handleEvents(profiles, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, _ bool) { pl.profileSeen(obj.(*berthv1alpha1.ModelProfile)) },
		UpdateFunc: func(_, obj any) { pl.profileSeen(obj.(*berthv1alpha1.ModelProfile)) },
	})
}

func (pl *Plugin) handleEvents(informer cache.SharedIndexInformer, h cache.ResourceEventHandlerDetailedFuncs) error {
	registration, err := informer.AddEventHandler(h)
	if err != nil {
		return err
	}
	pl.synced = append(pl.synced, registration.HasSynced)
	return nil
}

func (pl *Plugin) podSeen(pod *corev1.Pod) {
	bound := pod.Spec.NodeName != ""
	var woken []parked.Change
	if bound {
		pl.history.Forget(pod.UID)
		woken = pl.parked.Remove(pod.UID)
		pl.unlisted.remove(pod.UID)
		pl.claimants.remove(pod.UID)
		pl.claims.Forget(pod.UID)
		pl.requests.Forget(pod.UID)
	}
	pl.tracker.PodSeen(pod)
	pl.passOn(woken, pod.Spec.NodeName)
	pl.watchUnreported(pod)
	pl.watchUnallocated(pod)
	if bound && pl.tracker.Ledger.Get(pod.UID) != nil {
		pl.watchLoads(pod.Spec.NodeName)
		pl.watchVictims(pod.Spec.NodeName)
		pl.watchLost(pod.Spec.NodeName)
		pl.watchBookings(pod.Spec.NodeName)
	}
}

// unreportedKey and a node's name are the key of its timer for pods of the device plugin that no report tells of.
const unreportedKey = "unreported/"

// watchUnreported retries the pods that wait for a node when a pod of the device plugin there can no longer hold GPUs of
// which no report tells.
func (pl *Plugin) watchUnreported(pod *corev1.Pod) {
	now := pl.clock.Now()
	policy := &pl.tracker.Policy
	if pod.Spec.NodeName == "" || !policy.RequestsGPUs(pod) {
		return
	}
	node, err := pl.nodes.Get(pod.Spec.NodeName)
	if err != nil || node.Labels[berthv1alpha1.LabelDevicePlugin] != berthv1alpha1.DevicePluginShared {
		return
	}
	if until := policy.UnreportedUntil(pod, time.Time{}, now); until.After(now) {
		pl.timers.at(unreportedKey+pod.Spec.NodeName, until, func() { pl.nodeChanged(pod.Spec.NodeName) })
	}
	pl.nodeChanged(pod.Spec.NodeName) // an init container may have ended
}

func (pl *Plugin) podGone(pod *corev1.Pod) {
	woken := pl.parked.Remove(pod.UID)
	pl.unlisted.remove(pod.UID)
	pl.claimants.remove(pod.UID)
	pl.requests.Forget(pod.UID)
	pl.claims.Gone(pod, pl.clock.Now())
	pl.lost.forget(pod.UID)
	pl.unallocated.forget(pod.UID)
	pl.overbooked.forget(pod.UID)
	pl.history.Forget(pod.UID)
	if node := pl.tracker.PodGone(pod); node != "" {
		pl.settle(node)
		pl.watchBookings(node)
	}
	pl.passOn(woken, "")
}

// settle forgets the draining pods of a node ("" = none) whose memory is back, now and when only time can tell.
func (pl *Plugin) settle(node string) {
	if node == "" {
		return
	}
	if at := pl.tracker.SettleNode(node); !at.IsZero() {
		pl.timers.at("settle/"+node, at, func() {
			pl.settle(node)
			pl.nodeChanged(node)
		})
	}
}

// cordonDelay is how long after a cordon was seen those that wait on the node are woken: the scheduler's own cache learns
// of it by a handler of its own.
const cordonDelay = 100 * time.Millisecond

// cordonSeen wakes those that wait on a node which was cordoned. The framework has no event for that; the taint that tells
// of it, if anybody sets one, comes later.
func (pl *Plugin) cordonSeen(before, node *corev1.Node) {
	if before.Spec.Unschedulable || !node.Spec.Unschedulable || len(pl.tracker.Ledger.ClaimsOn(node.Name)) == 0 {
		return
	}
	pl.timers.at("cordon/"+node.Name, pl.clock.Now().Add(cordonDelay), func() {
		var waiting []*parked.Pod
		for _, e := range pl.tracker.Ledger.ClaimsOn(node.Name) {
			if p := pl.parked.Get(e.UID); p != nil {
				waiting = append(waiting, p)
			}
		}
		pl.activate(waiting)
	})
}

func (pl *Plugin) leaseSeen(lease *coordinationv1.Lease, live bool) {
	var renewed time.Time
	if lease.Spec.RenewTime != nil {
		renewed = lease.Spec.RenewTime.Time
	}
	pl.tracker.LeaseSeen(lease.Name, renewed, live)
	if live && pl.timers.has(unreportedKey+lease.Name) {
		pl.nodeChanged(lease.Name) // by now the agent has looked
	}
}

func (pl *Plugin) profileSeen(p *berthv1alpha1.ModelProfile) {
	if p.IsReady() {
		pl.activate(pl.parked.Of(p.Name))
		if first := berthv1alpha1.ModelProfileName(p.Spec.Source); first != p.Name {
			pl.activate(pl.parked.Of(first)) // that name is another model's
		}
	}
}

func newInformer(client cache.Getter, resource, namespace string, example runtime.Object) cache.SharedIndexInformer {
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
