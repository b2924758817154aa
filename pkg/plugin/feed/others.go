// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/client-go/tools/cache"
)

// watchHandOff retries waiting pods when a RuntimeClass comes, or a node gets other runtime handlers. Of neither does
// the framework have an event.
func (f *Feed) watchHandOff() error {
	factory := f.Handle.SharedInformerFactory()
	if err := f.handleEvents(factory.Node().V1().RuntimeClasses().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, _ bool) { f.Wake.ClassSeen(obj.(*nodev1.RuntimeClass)) },
		UpdateFunc: func(_, obj any) { f.Wake.ClassSeen(obj.(*nodev1.RuntimeClass)) },
	}); err != nil {
		return err
	}
	return f.handleEvents(factory.Core().V1().Nodes().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, _ bool) { f.Faults.NodeSeen(&corev1.Node{}, obj.(*corev1.Node)) },
		UpdateFunc: func(old, obj any) {
			f.Wake.NodeSeen(old.(*corev1.Node), obj.(*corev1.Node))
			f.Faults.NodeSeen(old.(*corev1.Node), obj.(*corev1.Node))
		},
	})
}

// watchElsewhere tells of what happens to neighbours and volumes, through the informers that the framework has of them
// anyway. The books depend on none of it, so nothing waits for it.
func (f *Feed) watchElsewhere() error {
	core, storage := f.Handle.SharedInformerFactory().Core().V1(), f.Handle.SharedInformerFactory().Storage().V1()
	for _, add := range []func() error{
		onChange(core.Pods().Informer(), f.Wake.Needs.PodChanged),
		onChange(core.Nodes().Informer(), f.Wake.Needs.NodeChanged),
		onChange(core.PersistentVolumeClaims().Informer(), f.Wake.Needs.VolumeClaimChanged),
		onChange(core.PersistentVolumes().Informer(), f.Wake.Needs.VolumeChanged),
		onChange(storage.StorageClasses().Informer(), f.Wake.Needs.ClassChanged),
		onChange(storage.CSINodes().Informer(), f.Wake.Needs.CSINodeChanged),
		onChange(storage.CSIStorageCapacities().Informer(), f.Wake.Needs.CapacityChanged),
	} {
		if err := add(); err != nil {
			return err
		}
	}
	return nil
}

// onChange returns what has changed called for each change of an object: before is nil for one that comes, after for one
// that goes. What is there at first is no change.
func onChange[T any](informer cache.SharedIndexInformer, changed func(before, after *T)) func() error {
	return func() error {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
			AddFunc: func(obj any, initial bool) {
				if !initial {
					changed(nil, obj.(*T))
				}
			},
			UpdateFunc: func(old, obj any) { changed(old.(*T), obj.(*T)) },
			DeleteFunc: func(obj any) {
				if gone, ok := deleted[*T](obj); ok {
					changed(gone, nil)
				}
			},
		})
		return err
	}
}
