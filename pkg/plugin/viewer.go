// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/pkg/gpustate"
)

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
