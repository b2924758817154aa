// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// watched are the resources whose changes people wait for. Of them only the metadata is watched, which says that something
// changed; the objects are read when somebody asks.
var watched = []schema.GroupVersionResource{
	{Version: "v1", Resource: "pods"},
	{Version: "v1", Resource: "nodes"},
	berthv1alpha1.GroupVersion.WithResource("gpunodes"),
	berthv1alpha1.GroupVersion.WithResource("modelprofiles"),
}

// lostFor is how long a watch counts as lost after an error: longer than informers wait before they try again.
const lostFor = time.Minute

// watcher knows which resources are being watched.
type watcher struct {
	informers map[string]cache.SharedIndexInformer
	mu        sync.Mutex
	// synced are the resources that are being watched, and lost is when a watch failed.
	synced map[string]bool
	lost   map[string]time.Time
}

// newWatcher makes the informers; changed is told of each change.
func newWatcher(config *rest.Config, changed func(resource string)) (*watcher, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	w := &watcher{informers: map[string]cache.SharedIndexInformer{}, synced: map[string]bool{}, lost: map[string]time.Time{}}
	for _, resource := range watched {
		name := resource.Resource
		informer := metadatainformer.NewFilteredMetadataInformer(client, resource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
			AddFunc: func(_ any, isInInitialList bool) {
				if !isInInitialList {
					changed(name)
				}
			},
			UpdateFunc: func(any, any) { changed(name) },
			DeleteFunc: func(any) { changed(name) },
		})
		err = errors.Join(err, informer.SetTransform(slim), informer.SetWatchErrorHandlerWithContext(
			func(_ context.Context, _ *cache.Reflector, err error) { w.failed(name, err) }))
		if err != nil {
			return nil, err
		}
		w.informers[name] = informer
	}
	return w, nil
}

// slim leaves of an object what tells its versions apart.
func slim(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetLabels(nil)
		o.SetAnnotations(nil)
		o.SetManagedFields(nil)
		o.SetOwnerReferences(nil)
	}
	return obj, nil
}

// run watches until ctx ends. begun is told of each resource before it counts as watched: what was read of it may have changed since.
func (w *watcher) run(ctx context.Context, begun func(resource string)) {
	var group sync.WaitGroup
	for resource, informer := range w.informers {
		group.Go(func() { informer.RunWithContext(ctx) })
		group.Go(func() {
			if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
				begun(resource)
				w.mu.Lock()
				w.synced[resource] = true
				w.mu.Unlock()
			}
		})
	}
	group.Wait()
}

// failed notes that a resource cannot be watched now. Watches end from time to time, which is no failure.
func (w *watcher) failed(resource string, err error) {
	if errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost[resource] = time.Now()
}

// isWatched says whether changes of a resource are told of.
func (w *watcher) isWatched(resource string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, lost := w.lost[resource]
	return w.synced[resource] && (!lost || time.Since(at) > lostFor)
}

func (w *watcher) live() Live {
	for resource := range w.informers {
		if !w.isWatched(resource) {
			return LivePoll
		}
	}
	return LiveWatch
}
