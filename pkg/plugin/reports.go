// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/plugin/words"
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
				pl.unreadable.forget(o.Name)
				pl.tracker.ReportGone(o.Name)
				pl.watchContested(o.Name)
			}
		},
	})
}

func (pl *Plugin) objectSeen(o *gpunode.Object, live bool) {
	if gn := o.GPUNode(); gn != nil {
		pl.unreadable.forget(o.Name)
		pl.reportSeen(gn, live)
		return
	}
	pl.tracker.ReportUnreadable(o.Name)
	pl.wake.Settle(o.Name)
	pl.watchContested(o.Name)
	if !pl.unreadable.first(o.Name) {
		return
	}
	klog.Background().Info("The report of a node cannot be read: it gets no pods with GPU memory", "node", o.Name, "problem", o.Problem)
	pl.handle.EventRecorder().Eventf(&corev1.ObjectReference{
		APIVersion: berthv1alpha1.GroupVersion.String(), Kind: gpunode.Kind, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion,
	}, nil, corev1.EventTypeWarning, words.EventUnreadable, words.ActionReadReport, "%s", eventnote.Fit("The report cannot be read, and the node gets no pods with "+
		"GPU memory until its agent writes another: "+o.Problem))
}

func (pl *Plugin) reportSeen(gn *berthv1alpha1.GPUNode, live bool) {
	pl.tracker.ReportSeen(gn, live)
	pl.wake.Settle(gn.Name)
	pl.wake.WatchVictims(gn.Name)
	pl.watchLost(gn.Name)
	pl.watchBookings(gn.Name)
	pl.watchContested(gn.Name)
}

// unreadable is the nodes whose report cannot be read, each of which is told of once.
type unreadable struct {
	mu    sync.Mutex
	nodes map[string]bool
}

// first says whether a node was not among them, and is from now on.
func (u *unreadable) first(node string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.nodes == nil {
		u.nodes = map[string]bool{}
	}
	was := u.nodes[node]
	u.nodes[node] = true
	return !was
}

func (u *unreadable) forget(node string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.nodes, node)
}
