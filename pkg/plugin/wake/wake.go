// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/shared"
)

// NodeChanged retries the pods that freed memory on a node helps. The change must have been applied to the tracker.
func (w *Waker) NodeChanged(node string) { w.wake(w.Parked.Now(node, parked.MemoryFreed)) }

// NodeReshaped retries those that any other change of a node helps: of its devices, or of whom may be evicted.
func (w *Waker) NodeReshaped(node string) { w.wake(w.Parked.Now(node, parked.Reshaped)) }

// NodesChanged is NodeChanged of several.
func (w *Waker) NodesChanged(nodes []string) {
	for _, node := range nodes {
		w.NodeChanged(node)
	}
}

// RoomLeft retries the pods that are helped by what a pod's own cycle left on a node.
func (w *Waker) RoomLeft(node string, by types.UID) {
	c := w.Parked.Now(node, parked.MemoryFreed)
	c.By = by
	w.wake(c)
}

// wake retries the pods that a change of a node helps.
func (w *Waker) wake(c parked.Change) {
	helped := w.helped(c)
	w.Parked.Woken(c, helped)
	w.Activate(helped)
}

// helped returns the pods that a change of a node helps: those that wait on the node, if they fit now or never will;
// and as many others as there may be room for.
func (w *Waker) helped(c parked.Change) []*parked.Pod {
	node, err := w.Nodes.Get(c.Node)
	if err != nil {
		return nil
	}
	report, _ := w.Tracker.Store.Report(c.Node, 0)
	waiting := w.Tracker.Ledger.ClaimsOn(c.Node)
	if report == nil && len(waiting) == 0 {
		return nil
	}
	viewer := w.Tracker.Viewer()
	var helped []*parked.Pod
	waits := make(map[types.UID]bool, len(waiting))
	for _, e := range waiting {
		waits[e.UID] = true
		if p := w.Parked.Get(e.UID); p != nil && p.Request != nil && c.Concerns(p) && w.claimMoved(viewer, node, e, p) {
			helped = append(helped, p)
		}
	}
	pods := sync.OnceValue(func() []*corev1.Pod { return w.Tracker.Ledger.Pods(node.Name) }) // mostly nobody waits
	others := func(p *parked.Pod) bool {
		return !waits[p.UID] && w.canHandOff(p, node) && w.isWelcome(viewer, node, pods, c.What, p)
	}
	return append(helped, w.Parked.Helped(c, others, w.room(viewer, node, pods, c.What))...)
}

// room returns what a change may have made free on a node.
func (w *Waker) room(viewer *gpustate.Viewer, node *corev1.Node, pods func() []*corev1.Pod, what parked.What) parked.Room {
	return func(runtime berthv1alpha1.Runtime, priority int32) *alloc.Node {
		q := w.queryOf(node.Name, what, runtime, priority)
		view := viewer.View(node, pods(), &q)
		if view.Reason != "" {
			return nil
		}
		return &view.Node
	}
}

// queryOf is how a pod sees what a change may have made free.
func (w *Waker) queryOf(node string, what parked.What, runtime berthv1alpha1.Runtime, priority int32) gpustate.Query {
	q := gpustate.Query{Runtime: runtime, Priority: priority}
	if what == parked.Reshaped {
		q.Drained, q.Loaded, q.Gone = true, true, w.atMost(node, priority)
	}
	return q
}

// isWelcome says whether a pod would fit next to the replicas of its own workload on a node: to those that must keep apart,
// free memory is no help as such, and each report would wake them.
func (w *Waker) isWelcome(viewer *gpustate.Viewer, node *corev1.Node, pods func() []*corev1.Pod, what parked.What, p *parked.Pod) bool {
	if !w.Tracker.Ledger.Avoids(node.Name, &p.Request.Company) {
		return true
	}
	q := w.queryOf(node.Name, what, p.Request.Runtime, corev1helpers.PodPriority(p.Pod))
	q.Company = p.Request.Company
	view := viewer.View(node, pods(), &q)
	return view.Reason == "" && alloc.Fits(&view.Node, p.Request.On(&view.Node))
}

// atMost returns the booked pods of a node that a pod of a priority may be able to evict.
func (w *Waker) atMost(node string, priority int32) sets.Set[types.UID] {
	out := sets.New[types.UID]()
	for _, e := range w.Tracker.Ledger.OnNode(node) {
		if e.Priority < priority || e.Priority == priority && e.Terms.IdleAfter > 0 {
			out.Insert(e.UID)
		}
	}
	return out
}

// claimMoved says whether a pod that waits on a node has something to do: it fits there now, or never will; or, if its
// place went to another pod, its place is back, or its victims are gone.
func (w *Waker) claimMoved(viewer *gpustate.Viewer, node *corev1.Node, e *gpustate.Entry, p *parked.Pod) bool {
	q := gpustate.Query{Pod: e.UID, Runtime: p.Request.Runtime, Company: p.Request.Company, Priority: e.Priority}
	pods := w.Tracker.Ledger.Pods(node.Name)
	view := viewer.View(node, pods, &q)
	told := w.canHandOff(p, node)
	if told && view.Reason == "" && alloc.Fits(&view.Node, p.Request.On(&view.Node)) {
		return true
	}
	if shared.IsPassing(view.Reason) {
		return false // nothing is known, so nothing has changed
	}
	left := 0
	q.Drained, q.Loaded, q.Gone = true, true, sets.New[types.UID]()
	for _, v := range e.Claim.Victims {
		q.Gone.Insert(v.UID)
		if w.Exists(v) {
			left++
		}
	}
	q.Gone = q.Gone.Union(w.Claims.ComingBackOn(node.Name, e.UID))
	view = viewer.View(node, pods, &q)
	fits := told && view.Reason == "" && alloc.Fits(&view.Node, p.Request.On(&view.Node))
	if e.IsLost() {
		return fits || left == 0
	}
	return !fits
}

// Activate puts parked pods at the head of the queue, without backoff.
func (w *Waker) Activate(pods []*parked.Pod) {
	if len(pods) == 0 {
		return
	}
	byKey := make(map[string]*corev1.Pod, len(pods))
	for _, p := range pods {
		byKey[klog.KObj(p.Pod).String()] = p.Pod
	}
	w.History.Woken(len(byKey))
	w.Handle.Activate(klog.FromContext(context.Background()).WithName(config.Name), byKey)
}

// Park lists a pod that is gated, or begins a cycle.
func (w *Waker) Park(p parked.Pod) {
	w.unlisted.remove(p.UID)
	w.claimants.remove(p.UID)
	w.Parked.Add(p)
	if !w.Exists(p.Pod) {
		w.Unpark(p.UID, "") // nobody else would: that it is gone may have been told before
	}
}

// Unpark takes a pod off the list that is booked on a node, or gone. Room on other nodes that it was woken for is left to
// others.
func (w *Waker) Unpark(uid types.UID, took string) { w.PassOn(w.Parked.Remove(uid), took) }

// PassOn looks at nodes once more for whose sake a pod was woken that took none of them, or one.
func (w *Waker) PassOn(changes []parked.Change, took string) {
	for _, c := range changes {
		if c.Node != took {
			w.wake(c)
		}
	}
}

// NoteRefusals notes, at the end of a cycle that found no place, on which nodes somebody else than Berth refused the
// pod. Berth is the last filter of a profile, so a node's status names whoever was first to refuse.
func (w *Waker) NoteRefusals(pod *corev1.Pod, m fwk.NodeToStatusReader) {
	nodes, err := w.Handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return
	}
	var byOthers []string
	for _, ni := range nodes {
		if name := ni.Node().Name; m.Get(name).Plugin() != config.Name {
			byOthers = append(byOthers, name)
		}
	}
	w.Parked.Refused(pod.UID, byOthers)
}
