// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/apps"
	"k8s.io/client-go/informers/core"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/informers/node"
	"k8s.io/client-go/informers/policy"
	"k8s.io/client-go/informers/resource"
	"k8s.io/client-go/informers/scheduling"
	"k8s.io/client-go/informers/storage"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// factory makes the informers of the world, for the framework and for its plugins.
type factory struct {
	// SharedInformerFactory has what nobody in a scheduler asks for; it is never started.
	informers.SharedInformerFactory
	client kubernetes.Interface
	world  *world
}

func newFactory(client kubernetes.Interface, w *world) *factory {
	return &factory{SharedInformerFactory: informers.NewSharedInformerFactory(client, 0), client: client, world: w}
}

// InformerFor returns the informer of a kind, and makes it if there is none.
func (f *factory) InformerFor(obj runtime.Object, newFunc internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	return f.world.informerOf(obj, func() cache.SharedIndexInformer { return newFunc(f.client, 0) })
}

// Start does nothing, as do the others of its kind: there is nothing to wait for.
func (f *factory) Start(<-chan struct{})            {}
func (f *factory) StartWithContext(context.Context) {}
func (f *factory) Shutdown()                        {}

func (f *factory) WaitForCacheSync(<-chan struct{}) map[reflect.Type]bool { return nil }
func (f *factory) WaitForCacheSyncWithContext(context.Context) cache.SyncResult {
	return cache.SyncResult{}
}

// The groups of which a scheduler reads something.
func (f *factory) Apps() apps.Interface             { return apps.New(f, "", nil) }
func (f *factory) Core() core.Interface             { return core.New(f, "", nil) }
func (f *factory) Node() node.Interface             { return node.New(f, "", nil) }
func (f *factory) Policy() policy.Interface         { return policy.New(f, "", nil) }
func (f *factory) Resource() resource.Interface     { return resource.New(f, "", nil) }
func (f *factory) Scheduling() scheduling.Interface { return scheduling.New(f, "", nil) }
func (f *factory) Storage() storage.Interface       { return storage.New(f, "", nil) }
