// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// informer has the objects of one kind, and tells its handlers of each change while it is made, in the order in which
// they were registered. It never runs.
type informer struct {
	// SharedIndexInformer is one that is never started: its store is used, and nothing else.
	cache.SharedIndexInformer
	handlers []cache.ResourceEventHandler
}

func newInformer(never cache.SharedIndexInformer) *informer {
	return &informer{SharedIndexInformer: never}
}

func (i *informer) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return i.AddEventHandlerWithOptions(h, cache.HandlerOptions{})
}

func (i *informer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return i.AddEventHandlerWithOptions(h, cache.HandlerOptions{})
}

func (i *informer) AddEventHandlerWithOptions(h cache.ResourceEventHandler, _ cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	i.handlers = append(i.handlers, h)
	for _, obj := range i.list() {
		h.OnAdd(obj, true)
	}
	return synced{}, nil
}

// RemoveEventHandler does nothing: handlers live as long as the simulation.
func (i *informer) RemoveEventHandler(cache.ResourceEventHandlerRegistration) error { return nil }

func (i *informer) HasSynced() bool                     { return true }
func (i *informer) HasSyncedChecker() cache.DoneChecker { return synced{} }
func (i *informer) IsStopped() bool                     { return false }
func (i *informer) Run(<-chan struct{})                 {}
func (i *informer) RunWithContext(context.Context)      {}

// get returns the object of a key, or nil.
func (i *informer) get(key string) runtime.Object {
	if obj, ok, _ := i.GetStore().GetByKey(key); ok { // a store in memory has no errors
		return obj.(runtime.Object)
	}
	return nil
}

// list returns the objects in the order of their keys.
func (i *informer) list() []runtime.Object {
	keys := i.GetStore().ListKeys()
	slices.SortFunc(keys, strings.Compare)
	objects := make([]runtime.Object, len(keys))
	for k, key := range keys {
		objects[k] = i.get(key)
	}
	return objects
}

// put stores an object and tells of it. initial says that it was there when the simulation began.
func (i *informer) put(key string, obj runtime.Object, initial bool) error {
	old := i.get(key)
	var err error
	if old == nil {
		err = i.GetStore().Add(obj)
	} else {
		err = i.GetStore().Update(obj)
	}
	if err != nil {
		return err
	}
	for _, h := range i.handlers {
		if old == nil {
			h.OnAdd(obj, initial)
		} else {
			h.OnUpdate(old, obj)
		}
	}
	return nil
}

// remove takes an object away and tells of it.
func (i *informer) remove(obj runtime.Object) error {
	if err := i.GetStore().Delete(obj); err != nil {
		return err
	}
	for _, h := range i.handlers {
		h.OnDelete(obj)
	}
	return nil
}

// synced is who is always in step.
type synced struct{}

var alwaysDone = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (synced) HasSynced() bool                     { return true }
func (synced) HasSyncedChecker() cache.DoneChecker { return synced{} }
func (synced) Name() string                        { return "simulated" }
func (synced) Done() <-chan struct{}               { return alwaysDone }
