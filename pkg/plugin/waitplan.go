// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

var everything = labels.Everything()

// holdPlan returns the pod's plan, and what the pod is told, if the plan is still under way, so that nothing else is
// done for it: upstream alone would forget the nomination, or evict a second time, exactly while a dead process drains.
func (pl *Plugin) holdPlan(s *cycleState, pod *corev1.Pod) (held *plan, msg string) {
	plan := pl.plans.get(pod.UID)
	if plan == nil {
		return nil, ""
	}
	if pl.evictor.isRunning(pod) {
		return plan, fmt.Sprintf("evicting %s on node %s", plural(len(plan.victims), "pod"), plan.node)
	}
	next := *plan
	going := 0
	for _, v := range plan.victims {
		got, err := pl.evictor.evaluator.PodLister.Pods(v.Namespace).Get(v.Name)
		if err != nil || got.UID != v.UID {
			continue // gone
		}
		going++
		if got.DeletionTimestamp == nil {
			if pl.plans.isGoing(v) {
				continue
			}
			pl.reject(pod, plan, "victim-not-evicted", time.Time{})
			return nil, ""
		}
		// Its grace period is its own; the time for its memory to come back begins after it.
		if at := got.DeletionTimestamp.Add(pl.args.MemoryReturnTimeout.Duration); at.After(next.deadline) {
			next.deadline = at
		}
	}
	ni, err := pl.nodeInfo(plan.node)
	if err != nil {
		pl.reject(pod, plan, "node-gone", time.Time{})
		return nil, ""
	}
	now := pl.clock.Now()
	devices, fits := pl.fitsOnceReturned(s, ni, plan)
	if next.lost = !fits; next.lost {
		if !plan.lost {
			pl.metrics.plansRejected.WithLabelValues("no-longer-fits").Inc()
		}
		if going == 0 || now.After(next.deadline) {
			pl.giveUp(pod, plan, time.Time{})
			return nil, ""
		}
		pl.setPlan(pod, &next)
		return &next, fmt.Sprintf(lostPlace, plan.node, plural(going, "pod"))
	}
	if now.After(next.deadline) {
		pl.event(pod, nil, corev1.EventTypeWarning, eventMemoryNotBack, actionWait,
			fmt.Sprintf("GPU memory on node %s did not come back within %s: %s; trying another way", plan.node,
				pl.args.MemoryReturnTimeout.Duration, pl.holders(s, ni, plan)))
		pl.reject(pod, plan, "memory-not-returned", now.Add(giveUpFor))
		return nil, ""
	}
	next.devices = devices
	pl.setPlan(pod, &next)
	return &next, fmt.Sprintf(waitingOn, plan.node)
}

// waitingOn is what a pod is told that only has to wait.
const waitingOn = "waiting for GPU memory to come back, or for pods to have loaded, on node %s"

// lostPlace is what a pod is told that may not evict again yet.
const lostPlace = "the place on node %s went to another pod; nobody else is evicted before %s that it evicted are gone"

// giveUpFor is how long a pod does not wait again on a node where it waited in vain.
const giveUpFor = 10 * time.Minute

// reject gives a plan up, and lets others have what it held.
func (pl *Plugin) reject(pod *corev1.Pod, plan *plan, reason string, until time.Time) {
	pl.metrics.plansRejected.WithLabelValues(reason).Inc()
	pl.giveUp(pod, plan, until)
}

func (pl *Plugin) giveUp(pod *corev1.Pod, plan *plan, until time.Time) {
	pl.plans.giveUp(pod.UID, plan.node, until)
	pl.nodeChanged(plan.node)
}

// fitsOnceReturned says whether the pod fits on the node of its plan once all that is on its way is back, and everyone
// has loaded; and on which devices: those of the plan, if they will still do.
func (pl *Plugin) fitsOnceReturned(s *cycleState, ni fwk.NodeInfo, plan *plan) ([]alloc.DeviceShare, bool) {
	if _, reason := s.formOn(ni); reason != "" {
		return nil, false
	}
	view := pl.view(s.waiting(plan.victims, pl.plans.promised(s.uid)[plan.node]), ni)
	switch {
	case isSilent(view.Reason):
		return plan.devices, true // nothing is known to be against it, and the agent may be back soon
	case view.Reason != "":
		return nil, false
	case alloc.Validate(&view.Node, plan.devices) == nil:
		return plan.devices, true
	}
	best, ok := alloc.Best(&view.Node, &s.request.Request, pl.args.Strategy)
	return best.Devices, ok
}

// isSilent says whether a node is out of the question only because its agent does not report.
func isSilent(r alloc.Reason) bool {
	return r == gpustate.ReasonStaleReport || r == gpustate.ReasonNoReport
}

// waiting returns the state in which memory that is on its way back counts as free; victims, the pod's own and those of
// other plans, are taken for gone, terminating or not.
func (s *cycleState) waiting(victims []*corev1.Pod, promised sets.Set[types.UID]) *cycleState {
	w := &cycleState{cycleShared: s.cycleShared, removed: s.removed.Clone(), dryRun: true, returned: true}
	for _, v := range victims {
		w.assumeGone(v.UID)
	}
	for uid := range promised {
		w.assumeGone(uid)
	}
	return w
}

// waitCandidate is a node on which the pod fits once memory is back.
type waitCandidate struct {
	node       string
	allocation alloc.Allocation
	score      int64
	deadline   time.Time
}

// waitForMemory looks for a node on which the pod only has to wait: for the memory of processes whose pod is gone, of
// pods that terminate, for pods that load. Foreign memory does not come back. Waiting comes before any eviction. The
// result is nil if there is no such node.
func (pl *Plugin) waitForMemory(ctx context.Context, s *cycleState, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	nodes, err := m.NodesForStatusCode(pl.handle.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return nil, fwk.AsStatus(err)
	}
	promised := pl.plans.promised(pod.UID)
	var mu sync.Mutex
	var candidates []waitCandidate
	pl.handle.Parallelizer().Until(ctx, len(nodes), func(i int) {
		if c, ok := pl.canWaitOn(ctx, s, state, pod, nodes[i], promised); ok {
			mu.Lock()
			defer mu.Unlock()
			candidates = append(candidates, c)
		}
	}, Name)
	if len(candidates) == 0 {
		return nil, nil
	}
	best := slices.MinFunc(candidates, func(a, b waitCandidate) int {
		// Where the pod is nominated already it stays.
		if na, nb := a.node == pod.Status.NominatedNodeName, b.node == pod.Status.NominatedNodeName; na != nb {
			if na {
				return -1
			}
			return 1
		}
		if a.score != b.score {
			return int(b.score - a.score)
		}
		return strings.Compare(a.node, b.node)
	})
	pl.setPlan(pod, &plan{
		node: best.node, devices: best.allocation.Devices, priority: s.priority, madeAt: pl.clock.Now(), deadline: best.deadline,
	})
	msg := fmt.Sprintf(waitingOn, best.node)
	if pod.Status.NominatedNodeName != best.node {
		pl.event(pod, nil, corev1.EventTypeNormal, eventWaiting, actionWait, "Fits on node "+best.node+
			" once memory that is on its way back is free, or loading pods have loaded; nobody is evicted")
	}
	return framework.NewPostFilterResultWithNominatedNode(best.node), fwk.NewStatus(fwk.Success, msg)
}

// canWaitOn says whether the pod would fit on a node once memory is back: its GPU memory, and by the framework's own
// filters all its other needs, once terminating and promised pods are gone.
func (pl *Plugin) canWaitOn(ctx context.Context, s *cycleState, state fwk.CycleState, pod *corev1.Pod, ni fwk.NodeInfo, promised promisedPods) (waitCandidate, bool) {
	name := ni.Node().Name
	if pl.plans.hasGivenUp(pod.UID, name, pl.clock.Now()) {
		return waitCandidate{}, false
	}
	returned := s.returnedOn(ni, promised)
	view := pl.view(returned, ni)
	if view.Reason != "" {
		return waitCandidate{}, false
	}
	best, ok := alloc.Best(&view.Node, &s.request.Request, pl.args.Strategy)
	if !ok {
		return waitCandidate{}, false
	}
	if now := pl.view(s, ni); alloc.Fits(&now.Node, &s.request.Request) {
		return waitCandidate{}, false // it is not the memory that it lacks here
	}
	trialState := state.Clone()
	trialState.Write(cycleKey, returned)
	t := &trial{e: pl.evictor, ctx: ctx, state: trialState, preemptor: pod, node: ni.Snapshot()}
	if !t.removeGoing(promised).IsSuccess() || !t.fits().IsSuccess() {
		return waitCandidate{}, false
	}
	return waitCandidate{
		node: name, allocation: best, score: alloc.Score(&view.Node, &best, pl.args.Strategy),
		deadline: pl.waitDeadline(ni),
	}, true
}

// waitDeadline is how long a pod may wait on a node: until the terminating pods' grace periods and the loading pods'
// time are over, and then for the time that memory may take to come back.
func (pl *Plugin) waitDeadline(ni fwk.NodeInfo) time.Time {
	latest := pl.clock.Now()
	for _, pi := range ni.GetPods() {
		pod := pi.GetPod()
		if d := pod.DeletionTimestamp; d != nil && d.After(latest) {
			latest = d.Time
		}
		if e := pl.tracker.Ledger.Get(pod.UID); e == nil || e.Allocation == nil {
			continue
		}
		if until, loading := gpustate.LoadingUntil(pod, pl.args.LoadTimeout.Duration); loading && until.After(latest) {
			latest = until
		}
	}
	return latest.Add(pl.args.MemoryReturnTimeout.Duration)
}

// holders names, for people, what still holds the memory of a plan's devices.
func (pl *Plugin) holders(s *cycleState, ni fwk.NodeInfo, plan *plan) string {
	q := s.query()
	view := s.viewer.Explain(ni.Node(), podsOf(ni), &q)
	if isSilent(view.Reason) {
		return "its agent has been silent, so nothing is known of it"
	}
	terminating := map[types.UID]bool{}
	for _, pi := range ni.GetPods() {
		terminating[pi.GetPod().UID] = pi.GetPod().DeletionTimestamp != nil
	}
	var parts []string
	for i := range view.Devices {
		d := &view.Devices[i]
		if !slices.ContainsFunc(plan.devices, func(share alloc.DeviceShare) bool { return share.UUID == d.UUID }) {
			continue
		}
		for j := range view.Charges {
			c := &view.Charges[j]
			if c.Charged[i].IsZero() {
				continue
			}
			switch {
			case c.State == gpustate.Leaving:
				parts = append(parts, fmt.Sprintf("processes of the gone pod %s/%s still hold %s on GPU %d (%s)", c.Namespace, c.Name, c.Charged[i], d.Index, d.UUID))
			case terminating[c.UID]:
				parts = append(parts, fmt.Sprintf("pod %s/%s is still terminating and holds %s on GPU %d (%s)", c.Namespace, c.Name, c.Charged[i], d.Index, d.UUID))
			}
		}
		if !view.Nobody[i].IsZero() {
			parts = append(parts, fmt.Sprintf("processes of no known pod hold %s on GPU %d (%s)", view.Nobody[i], d.Index, d.UUID))
		}
	}
	if len(parts) == 0 {
		return "pods have not finished loading"
	}
	return strings.Join(parts, "; ")
}
