// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/client-go/tools/cache"
)

// watchDRA feeds the tracker with slices and claims, through the informers that the framework has of them anyway.
func (f *Feed) watchDRA() error {
	dra := f.Tracker.DRA
	if dra == nil {
		return nil
	}
	informers := f.Handle.SharedInformerFactory().Resource().V1()
	slice := func(obj any) { f.Wake.NodesChanged(dra.SliceSeen(obj.(*resourcev1.ResourceSlice))) }
	if err := f.handleEvents(informers.ResourceSlices().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, _ bool) { slice(obj) },
		UpdateFunc: func(_, obj any) { slice(obj) },
		DeleteFunc: func(obj any) {
			if s, ok := deleted[*resourcev1.ResourceSlice](obj); ok {
				f.Wake.NodesChanged(dra.SliceGone(s.Name))
			}
		},
	}); err != nil {
		return err
	}
	return f.handleEvents(informers.ResourceClaims().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, _ bool) { f.Wake.NodesChanged(dra.ClaimSeen(obj.(*resourcev1.ResourceClaim))) },
		UpdateFunc: func(old, obj any) {
			// A claim that was deleted and made again between two events is two claims.
			if o, c := old.(*resourcev1.ResourceClaim), obj.(*resourcev1.ResourceClaim); o.UID != c.UID {
				f.Wake.NodesChanged(dra.ClaimGone(o.UID))
			}
			f.Wake.NodesChanged(dra.ClaimSeen(obj.(*resourcev1.ResourceClaim)))
		},
		DeleteFunc: func(obj any) {
			if c, ok := deleted[*resourcev1.ResourceClaim](obj); ok {
				f.Wake.NodesChanged(dra.ClaimGone(c.UID))
			}
		},
	})
}
