// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// watchDRA feeds the tracker with slices and claims, through the informers that the framework has of them anyway.
func (pl *Plugin) watchDRA() error {
	dra := pl.tracker.DRA
	if dra == nil {
		return nil
	}
	informers := pl.handle.SharedInformerFactory().Resource().V1()
	slice := func(obj any) { pl.nodesChanged(dra.SliceSeen(obj.(*resourcev1.ResourceSlice))) }
	if err := pl.handleEvents(informers.ResourceSlices().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, _ bool) { slice(obj) },
		UpdateFunc: func(_, obj any) { slice(obj) },
		DeleteFunc: func(obj any) {
			if s, ok := deleted[*resourcev1.ResourceSlice](obj); ok {
				pl.nodesChanged(dra.SliceGone(s.Name))
			}
		},
	}); err != nil {
		return err
	}
	return pl.handleEvents(informers.ResourceClaims().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, _ bool) { pl.nodesChanged(dra.ClaimSeen(obj.(*resourcev1.ResourceClaim))) },
		UpdateFunc: func(old, obj any) {
			// A claim that was deleted and made again between two events is two claims.
			if o, c := old.(*resourcev1.ResourceClaim), obj.(*resourcev1.ResourceClaim); o.UID != c.UID {
				pl.nodesChanged(dra.ClaimGone(o.UID))
			}
			pl.nodesChanged(dra.ClaimSeen(obj.(*resourcev1.ResourceClaim)))
		},
		DeleteFunc: func(obj any) {
			if c, ok := deleted[*resourcev1.ResourceClaim](obj); ok {
				pl.nodesChanged(dra.ClaimGone(c.UID))
			}
		},
	})
}

func (pl *Plugin) nodesChanged(nodes []string) {
	for _, node := range nodes {
		pl.wake.NodeChanged(node)
	}
}

// viewer returns a viewer for one cycle. It knows of the claims that this scheduler is about to allocate too.
func (pl *Plugin) viewer() (v *gpustate.Viewer, err error) {
	v = pl.tracker.Viewer()
	if v.DRAAhead, err = pl.resourceClaims.Ahead(); err != nil {
		return nil, err
	}
	for node := range v.DRAAhead {
		pl.world.Timers.At("dra/"+node, pl.clock.Now().Add(aheadRetry), func() { pl.wake.NodeChanged(node) })
	}
	return v, nil
}

// aheadRetry is when a node is looked at again on which the framework holds more for claims than the API told. No event
// may come: an allocation that is given up was never written, and of a claim that is gone the framework may hear later
// than the tracker does.
const aheadRetry = time.Second

// claimsGPU says whether a pod would get GPUs in another way than by its request: of a device plugin, or by a claim.
func (pl *Plugin) claimsGPU(ctx context.Context, pod *corev1.Pod) (bool, error) {
	if pl.tracker.Policy.RequestsGPUs(pod) {
		return true, nil // by a name that the admin gave; those that are known anyway are refused before
	}
	return pl.resourceClaims.AskForGPU(ctx, pod)
}
