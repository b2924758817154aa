// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/parked"
)

// nodeChanged and nodeReshaped retry the pods that a change of a node helps. The change must have been
// applied to the tracker.
func (pl *Plugin) nodeChanged(node string)  { pl.wake(pl.parked.Now(node, parked.MemoryFreed)) }
func (pl *Plugin) nodeReshaped(node string) { pl.wake(pl.parked.Now(node, parked.Reshaped)) }

// roomLeft retries the pods that are helped by what a pod's own cycle left on a node.
func (pl *Plugin) roomLeft(node string, by types.UID) {
	c := pl.parked.Now(node, parked.MemoryFreed)
	c.By = by
	pl.wake(c)
}

// wake retries the pods that a change of a node helps.
func (pl *Plugin) wake(c parked.Change) {
	helped := pl.helped(c)
	pl.parked.Woken(c, helped)
	pl.activate(helped)
}

// helped returns the pods that a change of a node helps: those that wait on the node, if they fit now or never will;
// and as many others as there may be room for.
func (pl *Plugin) helped(c parked.Change) []*parked.Pod {
	node, err := pl.nodes.Get(c.Node)
	if err != nil {
		return nil
	}
	report, _ := pl.tracker.Store.Report(c.Node, 0)
	waiting := pl.tracker.Ledger.ClaimsOn(c.Node)
	if report == nil && len(waiting) == 0 {
		return nil
	}
	viewer := pl.tracker.Viewer()
	var helped []*parked.Pod
	waits := make(map[types.UID]bool, len(waiting))
	for _, e := range waiting {
		waits[e.UID] = true
		if p := pl.parked.Get(e.UID); p != nil && p.Request != nil && c.Concerns(p) && pl.claimMoved(viewer, node, e, p) {
			helped = append(helped, p)
		}
	}
	others := func(p *parked.Pod) bool { return !waits[p.UID] && pl.canHandOff(p, node) }
	return append(helped, pl.parked.Helped(c, others, pl.room(viewer, node, c.What))...)
}

// room returns what a change may have made free on a node.
func (pl *Plugin) room(viewer *gpustate.Viewer, node *corev1.Node, what parked.What) parked.Room {
	pods := sync.OnceValue(func() []*corev1.Pod { return pl.tracker.Ledger.Pods(node.Name) }) // mostly nobody waits
	return func(runtime berthv1alpha1.Runtime, priority int32) *alloc.Node {
		q := gpustate.Query{Runtime: runtime, Priority: priority}
		if what == parked.Reshaped {
			q.Drained, q.Loaded, q.Gone = true, true, pl.atMost(node.Name, priority)
		}
		view := viewer.View(node, pods(), &q)
		if view.Reason != "" {
			return nil
		}
		return &view.Node
	}
}

// atMost returns the booked pods of a node that a pod of a priority may be able to evict.
func (pl *Plugin) atMost(node string, priority int32) sets.Set[types.UID] {
	out := sets.New[types.UID]()
	for _, e := range pl.tracker.Ledger.OnNode(node) {
		if e.Priority < priority || e.Priority == priority && e.Terms.IdleAfter > 0 {
			out.Insert(e.UID)
		}
	}
	return out
}

// claimMoved says whether a pod that waits on a node has something to do: it fits there now, or never will; or, if its
// place went to another pod, its place is back, or its victims are gone.
func (pl *Plugin) claimMoved(viewer *gpustate.Viewer, node *corev1.Node, e *gpustate.Entry, p *parked.Pod) bool {
	q := gpustate.Query{Pod: e.UID, Runtime: p.Request.Runtime, Priority: e.Priority}
	pods := pl.tracker.Ledger.Pods(node.Name)
	view := viewer.View(node, pods, &q)
	told := pl.canHandOff(p, node)
	if told && view.Reason == "" && alloc.Fits(&view.Node, p.Request.On(&view.Node)) {
		return true
	}
	if isPassing(view.Reason) {
		return false // nothing is known, so nothing has changed
	}
	left := 0
	q.Drained, q.Loaded, q.Gone = true, true, sets.New[types.UID]()
	for _, v := range e.Claim.Victims {
		q.Gone.Insert(v.UID)
		if pl.exists(v) {
			left++
		}
	}
	q.Gone = q.Gone.Union(pl.claims.ComingBackOn(node.Name, e.UID))
	view = viewer.View(node, pods, &q)
	fits := told && view.Reason == "" && alloc.Fits(&view.Node, p.Request.On(&view.Node))
	if e.IsLost() {
		return fits || left == 0
	}
	return !fits
}

// activate puts parked pods at the head of the queue, without backoff.
func (pl *Plugin) activate(pods []*parked.Pod) {
	if len(pods) == 0 {
		return
	}
	byKey := make(map[string]*corev1.Pod, len(pods))
	for _, p := range pods {
		byKey[klog.KObj(p.Pod).String()] = p.Pod
	}
	pl.history.Woken(len(byKey))
	pl.handle.Activate(klog.FromContext(context.Background()).WithName(Name), byKey)
}

// park lists a pod that is gated, or begins a cycle.
func (pl *Plugin) park(p parked.Pod) {
	pl.unlisted.remove(p.UID)
	pl.claimants.remove(p.UID)
	pl.parked.Add(p)
	if !pl.exists(p.Pod) {
		pl.unpark(p.UID, "") // nobody else would: that it is gone may have been told before
	}
}

// unpark takes a pod off the list that is booked on a node, or gone. Room on other nodes that it was woken for is left to
// others.
func (pl *Plugin) unpark(uid types.UID, took string) { pl.passOn(pl.parked.Remove(uid), took) }

// passOn looks at nodes once more for whose sake a pod was woken that took none of them, or one.
func (pl *Plugin) passOn(changes []parked.Change, took string) {
	for _, c := range changes {
		if c.Node != took {
			pl.wake(c)
		}
	}
}

// noteRefusals notes, at the end of a cycle that found no place, on which nodes somebody else than Berth refused the
// pod. Berth is the last filter of a profile, so a node's status names whoever was first to refuse.
func (pl *Plugin) noteRefusals(pod *corev1.Pod, m fwk.NodeToStatusReader) {
	nodes, err := pl.handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return
	}
	var byOthers []string
	for _, ni := range nodes {
		if name := ni.Node().Name; m.Get(name).Plugin() != Name {
			byOthers = append(byOthers, name)
		}
	}
	pl.parked.Refused(pod.UID, byOthers)
}
