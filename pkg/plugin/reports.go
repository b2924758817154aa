// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"k8s.io/client-go/tools/cache"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// watchReports watches GPUNodes, each of which is decoded alone.
func (pl *Plugin) watchReports(gpuNodes cache.SharedIndexInformer) error {
	return pl.handleEvents(gpuNodes, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) { pl.objectSeen(obj.(*gpunode.Object), !initial) },
		UpdateFunc: func(old, obj any) {
			o, n := old.(*gpunode.Object), obj.(*gpunode.Object)
			if o.ResourceVersion != n.ResourceVersion { // else a resync
				pl.objectSeen(n, true)
			}
		},
		DeleteFunc: func(obj any) {
			if o, ok := deleted[*gpunode.Object](obj); ok {
				pl.faults.ReportReadable(o.Name)
				pl.tracker.ReportGone(o.Name)
				pl.faults.WatchContested(o.Name)
			}
		},
	})
}

func (pl *Plugin) objectSeen(o *gpunode.Object, live bool) {
	if gn := o.GPUNode(); gn != nil {
		pl.faults.ReportReadable(o.Name)
		pl.reportSeen(gn, live)
		return
	}
	pl.tracker.ReportUnreadable(o.Name)
	pl.wake.Settle(o.Name)
	pl.faults.WatchContested(o.Name)
	pl.faults.ReportUnreadable(o)
}

func (pl *Plugin) reportSeen(gn *berthv1alpha1.GPUNode, live bool) {
	pl.tracker.ReportSeen(gn, live)
	pl.wake.Settle(gn.Name)
	pl.wake.WatchVictims(gn.Name)
	pl.faults.WatchLost(gn.Name)
	pl.faults.WatchBookings(gn.Name)
	pl.faults.WatchContested(gn.Name)
}
