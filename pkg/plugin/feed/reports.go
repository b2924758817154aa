// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	"k8s.io/client-go/tools/cache"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// WatchReports watches GPUNodes, each of which is decoded alone.
func (f *Feed) WatchReports(gpuNodes cache.SharedIndexInformer) error {
	return f.handleEvents(gpuNodes, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) { f.objectSeen(obj.(*gpunode.Object), !initial) },
		UpdateFunc: func(old, obj any) {
			o, n := old.(*gpunode.Object), obj.(*gpunode.Object)
			if o.ResourceVersion != n.ResourceVersion { // else a resync
				f.objectSeen(n, true)
			}
		},
		DeleteFunc: func(obj any) {
			if o, ok := deleted[*gpunode.Object](obj); ok {
				f.Faults.ReportReadable(o.Name)
				f.Tracker.ReportGone(o.Name)
				f.Faults.WatchContested(o.Name)
			}
		},
	})
}

func (f *Feed) objectSeen(o *gpunode.Object, live bool) {
	if gn := o.GPUNode(); gn != nil {
		f.Faults.ReportReadable(o.Name)
		f.ReportSeen(gn, live)
		return
	}
	f.Tracker.ReportUnreadable(o.Name)
	f.Wake.Settle(o.Name)
	f.Faults.WatchContested(o.Name)
	f.Faults.ReportUnreadable(o)
}

// ReportSeen says that a report came; live says that it was made just now.
func (f *Feed) ReportSeen(gn *berthv1alpha1.GPUNode, live bool) {
	f.Tracker.ReportSeen(gn, live)
	f.Wake.Settle(gn.Name)
	f.Wake.WatchVictims(gn.Name)
	f.Faults.WatchDevices(gn.Name)
	f.Faults.WatchBookings(gn.Name)
	f.Faults.WatchContested(gn.Name)
}
