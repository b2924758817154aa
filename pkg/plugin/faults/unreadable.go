// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/eventnote"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

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

// ReportReadable says that the report of a node can be read, or is gone.
func (w *Watcher) ReportReadable(node string) { w.unreadable.forget(node) }

// ReportUnreadable tells that the report of a node cannot be read, once.
func (w *Watcher) ReportUnreadable(o *gpunode.Object) {
	if !w.unreadable.first(o.Name) {
		return
	}
	klog.Background().Info("The report of a node cannot be read: it gets no pods with GPU memory", "node", o.Name, "problem", o.Problem)
	w.Handle.EventRecorder().Eventf(&corev1.ObjectReference{
		APIVersion: berthv1alpha1.GroupVersion.String(), Kind: gpunode.Kind, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion,
	}, nil, corev1.EventTypeWarning, words.EventUnreadable, words.ActionReadReport, "%s", eventnote.Fit("The report cannot be read, and the node gets no pods with "+
		"GPU memory until its agent writes another: "+o.Problem))
}
