// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"reflect"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// firstVersion is above the versions of all objects of a cluster.
const firstVersion = 1_000_000_000_000_000

// world is what there is in the simulated cluster. One goroutine at a time changes it.
type world struct {
	clock     *virtualClock
	informers map[reflect.Type]*informer
	version   int
	// depth counts the changes under way, for one may cause another; later is what waits for the outermost to end.
	depth int
	later []func()
	// loading says that what is put was there when the simulation began.
	loading bool
}

func newWorld(c *virtualClock) *world {
	return &world{clock: c, informers: map[reflect.Type]*informer{}}
}

// informerOf returns the informer of a kind; never makes one that is never started.
func (w *world) informerOf(example runtime.Object, never func() cache.SharedIndexInformer) *informer {
	kind := reflect.TypeOf(example)
	i := w.informers[kind]
	if i == nil {
		i = newInformer(never())
		w.informers[kind] = i
	}
	return i
}

// standalone returns the informer of a kind that the framework has none of.
func (w *world) standalone(_, _ string, example runtime.Object) cache.SharedIndexInformer {
	return w.informerOf(example, func() cache.SharedIndexInformer {
		return cache.NewSharedIndexInformer(&cache.ListWatch{}, example, 0,
			cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	})
}

// doLater runs f once the change that is under way has been told to everybody.
func (w *world) doLater(f func()) { w.later = append(w.later, f) }

// change makes a change, and runs what was put off until it is over.
func (w *world) change(f func() error) error {
	w.depth++
	err := f()
	w.depth--
	for w.depth == 0 && len(w.later) > 0 {
		next := w.later[0]
		w.later = w.later[1:]
		next()
	}
	return err
}

// put adds or replaces an object, which is the world's from then on. Kinds that nobody asked for are left out.
func (w *world) put(obj runtime.Object) error {
	i := w.informers[reflect.TypeOf(obj)]
	if i == nil {
		return nil
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return fmt.Errorf("%T: %w", obj, err)
	}
	accessor.SetManagedFields(nil)
	if !w.loading || accessor.GetResourceVersion() == "" {
		w.version++
		accessor.SetResourceVersion(strconv.Itoa(firstVersion + w.version))
	}
	if pod, ok := obj.(*corev1.Pod); ok && gpustate.HasEnded(pod) {
		return w.remove(obj) // as the scheduler's informer, which selects those that have not
	}
	key, err := cache.MetaNamespaceKeyFunc(obj)
	if err != nil {
		return err
	}
	return w.change(func() error { return i.put(key, obj, w.loading) })
}

// remove takes an object away, if it is there.
func (w *world) remove(obj runtime.Object) error {
	i := w.informers[reflect.TypeOf(obj)]
	key, err := cache.MetaNamespaceKeyFunc(obj)
	if i == nil || err != nil {
		return err
	}
	if have := i.get(key); have != nil {
		return w.change(func() error { return i.remove(have) })
	}
	return nil
}

// all returns the objects of a kind in the order of their names.
func all[T runtime.Object](w *world) (out []T) {
	if i := w.informers[reflect.TypeFor[T]()]; i != nil {
		for _, obj := range i.list() {
			out = append(out, obj.(T))
		}
	}
	return out
}

// find returns an object by its namespace and name.
func find[T runtime.Object](w *world, namespace, name string) (T, bool) {
	var none T
	i := w.informers[reflect.TypeFor[T]()]
	if i == nil {
		return none, false
	}
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	if obj := i.get(key); obj != nil {
		return obj.(T), true
	}
	return none, false
}
