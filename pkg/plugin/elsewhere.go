// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/berth-dev/berth/pkg/plugin/needs"
)

// newNeeds makes the list of what those that wait on a node need beside it.
func (pl *Plugin) newNeeds() *needs.List {
	core := pl.handle.SharedInformerFactory().Core().V1()
	return &needs.List{
		Clock: pl.clock, Nodes: pl.nodes, VolumeClaims: core.PersistentVolumeClaims().Lister(),
		WaitsOn: func(uid types.UID) string {
			if e := pl.tracker.Ledger.ClaimOf(uid); e != nil {
				return e.Node
			}
			return ""
		},
		Judge: func(uid types.UID, at time.Time) {
			pl.retryAt(fmt.Sprintf("needs/%d/", at.UnixNano()), uid, at) // two moments, two timers
		},
	}
}

// watchElsewhere tells of what happens to neighbours and volumes, through the informers that the framework has of them
// anyway. The books depend on none of it, so nothing waits for it.
func (pl *Plugin) watchElsewhere() error {
	core, storage := pl.handle.SharedInformerFactory().Core().V1(), pl.handle.SharedInformerFactory().Storage().V1()
	for _, add := range []func() error{
		onChange(core.Pods().Informer(), pl.needs.PodChanged),
		onChange(core.Nodes().Informer(), pl.needs.NodeChanged),
		onChange(core.PersistentVolumeClaims().Informer(), pl.needs.VolumeClaimChanged),
		onChange(core.PersistentVolumes().Informer(), pl.needs.VolumeChanged),
		onChange(storage.StorageClasses().Informer(), pl.needs.ClassChanged),
		onChange(storage.CSINodes().Informer(), pl.needs.CSINodeChanged),
		onChange(storage.CSIStorageCapacities().Informer(), pl.needs.CapacityChanged),
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
