// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/preempt"
)

const (
	// giveUpFor is how long a pod does not wait again on a node where it waited in vain.
	giveUpFor = 10 * time.Minute
	// goneFor is how long it does not wait on a node that is gone, and that the scheduler's cache may still have.
	goneFor = 10 * time.Second
)

// follow returns what the pod of the cycle claims, and what the pod is told, if that is still under way, so that nothing
// else is done for it: upstream alone would forget the nomination, or evict a second time, exactly while a dead process
// drains. Everything is judged again, by the framework's own filters. Claims lives in package claims, see its drawing.
func (pl *Plugin) follow(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod) (claim *gpustate.Entry, msg string) {
	e := pl.tracker.Ledger.ClaimOf(pod.UID)
	if e == nil {
		return nil, ""
	}
	if pl.evictor.IsRunning(pod) {
		return e, fmt.Sprintf("evicting %s on node %s", plural(len(e.Claim.Victims), "pod"), e.Node)
	}
	next := *e.Claim
	left, alive := pl.victimsLeft(&next)
	if alive {
		pl.reject(ctx, pod, e, "victim-not-evicted", "")
		return nil, ""
	}
	ni, err := pl.nodeInfo(e.Node)
	node, gone := pl.nodes.Get(e.Node)
	if err != nil || gone != nil { // the snapshot may still have it
		pl.claims.GiveUp(pod.UID, e.Node, pl.clock.Now().Add(goneFor))
		pl.reject(ctx, pod, e, "node-gone", "the node is gone")
		return nil, ""
	}
	now := pl.clock.Now()
	devices, status := pl.judge(ctx, s, state, pod, ni, node, e)
	switch {
	case status.Code() == fwk.Error:
		return e, fmt.Sprintf(waitingOn, e.Node, "it could not be looked at: "+status.Message())
	case !status.IsSuccess() && (status.Plugin() != Name || status.Code() == fwk.UnschedulableAndUnresolvable):
		// It is not the memory, or no memory that comes back would help.
		pl.reject(ctx, pod, e, "node-refused", status.Message())
		return nil, ""
	case !status.IsSuccess():
		if !e.IsLost() {
			pl.claimDropped(ctx, pod, e, "no-longer-fits", status.Message())
			next.PatientUntil = now.Add(pl.args.WaitBeforeEviction.Duration)
		}
		if left == 0 || now.After(next.PatientUntil) {
			pl.dropClaim(pod)
			return nil, ""
		}
		if e = pl.setClaim(pod, e.Node, nil, next); e == nil {
			return nil, ""
		}
		return e, fmt.Sprintf(lostPlace, e.Node, plural(left, "pod"))
	case now.After(next.Deadline):
		awaited, inMemory := pl.awaited(s, ni, devices)
		note := fmt.Sprintf("Does not wait for node %s any longer: %s; trying another way", e.Node, awaited)
		if inMemory {
			note = fmt.Sprintf("GPU memory on node %s did not come back within %s: %s; trying another way", e.Node,
				pl.args.MemoryReturnTimeout.Duration, awaited)
		}
		pl.event(pod, nil, corev1.EventTypeWarning, eventMemoryNotBack, actionWait, note)
		pl.claims.GiveUp(pod.UID, e.Node, now.Add(giveUpFor))
		pl.reject(ctx, pod, e, "memory-not-returned", "")
		return nil, ""
	}
	if e.IsLost() { // its place is back
		next.PatientUntil = time.Time{}
	}
	if e = pl.setClaim(pod, e.Node, devices, next); e == nil {
		return nil, ""
	}
	awaited, _ := pl.awaited(s, ni, devices)
	return e, fmt.Sprintf(waitingOn, e.Node, awaited)
}

const (
	// waitingOn is what a pod is told that only has to wait.
	waitingOn = "waiting on node %s: %s"
	// lostPlace is what a pod is told that may not evict again yet.
	lostPlace = "the place on node %s went to another pod; nobody else is evicted before %s that it evicted are gone"
)

// victimsLeft counts the victims that are not gone yet, and moves the deadline behind their grace periods. One of them
// is alive if it was not evicted after all.
func (pl *Plugin) victimsLeft(c *gpustate.Claim) (left int, alive bool) {
	for _, v := range c.Victims {
		got, err := pl.pods.Pods(v.Namespace).Get(v.Name)
		if err != nil || got.UID != v.UID {
			continue // gone
		}
		left++
		if got.DeletionTimestamp == nil {
			alive = alive || !pl.claims.IsEvicted(v)
			continue
		}
		// Its grace period is its own; the time for its memory to come back begins after it.
		if at := got.DeletionTimestamp.Add(pl.args.MemoryReturnTimeout.Duration); at.After(c.Deadline) {
			c.Deadline = at
		}
	}
	return left, alive
}

// judge says whether a pod fits on the node of its claim once all that is on its way is back, and everyone has loaded,
// by the framework's filters; and on which devices: those that it claims, if they will still do. node is the newest that
// is known of the node itself.
func (pl *Plugin) judge(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod, ni fwk.NodeInfo, node *corev1.Node, e *gpustate.Entry) ([]alloc.DeviceShare, *fwk.Status) {
	comingBack := pl.claims.ComingBackOn(e.Node, pod.UID)
	victims := sets.New[types.UID]()
	for _, v := range e.Claim.Victims {
		victims.Insert(v.UID)
	}
	assumed := s.Assume(true, victims, comingBack)
	t := pl.evictor.NewTrial(ctx, state, assumed, pod, ni)
	t.SetNode(node)
	if status := t.RemoveGone(victims, comingBack); !status.IsSuccess() {
		return nil, status
	}
	if status := t.Fits(); !status.IsSuccess() {
		if view := assumed.View(ni); status.Plugin() == Name && isPassing(view.Reason) {
			return e.Allocation.Devices, nil // nothing is known to be against it, and that may be over soon
		}
		return nil, status
	}
	view := assumed.View(ni)
	if len(e.Allocation.Devices) > 0 && alloc.Validate(&view.Node, e.Allocation.Devices) == nil {
		return e.Allocation.Devices, nil
	}
	best, ok := alloc.Best(&view.Node, s.Request.On(&view.Node), pl.args.Strategy)
	if !ok {
		return nil, rejected(fwk.Unschedulable, gpustate.ReasonInsufficientMemory).WithPlugin(Name)
	}
	return best.Devices, nil
}

// isSilent says whether a node is out of the question only because its agent does not report.
func isSilent(r alloc.Reason) bool {
	return r == gpustate.ReasonStaleReport || r == gpustate.ReasonNoReport
}

// isPassing says whether a node is out of the question only until its agent tells more.
func isPassing(r alloc.Reason) bool { return isSilent(r) || r == gpustate.ReasonUnreportedDevicePod }

// reject gives a claim up, lets others have what it held, and tells the pod's owner why, if there is more to tell than
// an Event of its own does.
func (pl *Plugin) reject(ctx context.Context, pod *corev1.Pod, e *gpustate.Entry, reason, why string) {
	pl.claimDropped(ctx, pod, e, reason, why)
	if why != "" {
		pl.event(pod, nil, corev1.EventTypeNormal, eventClaimDropped, actionWait,
			fmt.Sprintf("Does not wait for node %s any longer: %s; trying another way", e.Node, why))
	}
	pl.dropClaim(pod)
}

func (pl *Plugin) claimDropped(ctx context.Context, pod *corev1.Pod, e *gpustate.Entry, reason, why string) {
	pl.metrics.claimsDropped.WithLabelValues(reason).Inc()
	pl.history.Dropped(ctx, pod, e.Node, reason, why)
}

// setClaim claims devices for a pod, and retries it when its time is over; what it claimed elsewhere is free for others.
// Nil if the pod is gone, or booked.
func (pl *Plugin) setClaim(pod *corev1.Pod, node string, devices []alloc.DeviceShare, c gpustate.Claim) *gpustate.Entry {
	before, err := pl.tracker.Ledger.Claim(pod, node, devices, c)
	if err != nil {
		return nil
	}
	if !pl.exists(pod) {
		pl.dropClaim(pod) // nobody else would: that it is gone may have been told before
		return nil
	}
	if before != nil && !before.IsLost() && (before.Node != node || len(devices) == 0) {
		pl.roomLeft(before.Node, pod.UID)
	}
	pl.retryAt("claim/", pod.UID, c.Deadline)
	if !c.PatientUntil.IsZero() {
		pl.retryAt("patience/", pod.UID, c.PatientUntil)
	}
	return pl.tracker.Ledger.ClaimOf(pod.UID)
}

// dropClaim takes back what a pod claims, and lets others have it.
func (pl *Plugin) dropClaim(pod *corev1.Pod) {
	if before := pl.tracker.Ledger.Unclaim(pod.UID); before != nil {
		pl.roomLeft(before.Node, pod.UID)
	}
}

// claimBound measures how long the victims of a pod that is bound took to make room, and lets others have what it claimed
// elsewhere, if it did.
func (pl *Plugin) claimBound(claim *gpustate.Entry) {
	if claim == nil {
		return
	}
	pl.nodeChanged(claim.Node)
	if len(claim.Claim.Victims) > 0 {
		pl.metrics.evictionToBind.Observe(pl.clock.Now().Sub(claim.Claim.MadeAt).Seconds())
	}
}

// exists says whether the API still has a pod, as far as the informer knows.
func (pl *Plugin) exists(pod *corev1.Pod) bool {
	got, err := pl.pods.Pods(pod.Namespace).Get(pod.Name)
	return err == nil && got.UID == pod.UID
}

// claimForUntried makes the claims of pods that were nominated before this process knew them, by the scheduler before a
// restart: where they fit once the memory that is on its way back is back.
func (pl *Plugin) claimForUntried(viewer *gpustate.Viewer) {
	for _, pod := range pl.claims.Untried() {
		ni, err := pl.nodeInfo(pod.Status.NominatedNodeName)
		r := pl.requests.Of(pod)
		if err != nil || r.Request == nil {
			continue
		}
		q := gpustate.Query{
			Pod: pod.UID, Runtime: r.Request.Runtime, Priority: priorityOf(pod), Drained: true, Loaded: true,
		}
		view := viewer.View(ni.Node(), cycle.PodsOf(ni), &q)
		best, ok := alloc.Best(&view.Node, r.Request.On(&view.Node), pl.args.Strategy)
		if view.Reason != "" || !ok {
			continue
		}
		now := pl.clock.Now()
		if pl.setClaim(pod, view.Name, best.Devices, gpustate.Claim{MadeAt: now, Deadline: pl.evictor.WaitDeadline(ni)}) != nil {
			pl.claims.Tried(pod.UID)
		}
	}
}

// nominationSeen notes a pod that somebody else nominated, and retries one that lost its nomination: whether it keeps
// its claim is for its next cycle to say.
func (pl *Plugin) nominationSeen(before, pod *corev1.Pod) {
	switch nominated := pod.Status.NominatedNodeName; {
	case pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil:
		pl.claims.Tried(pod.UID)
	case nominated != "":
		if pl.parked.Get(pod.UID) == nil && pl.tracker.Ledger.Get(pod.UID) == nil && pl.isOurs(pod) {
			pl.claims.Nominated(pod)
		}
	case before != nil && before.Status.NominatedNodeName != "":
		pl.claims.Tried(pod.UID)
		if p := pl.parked.Get(pod.UID); p != nil && pl.tracker.Ledger.ClaimOf(pod.UID) != nil {
			pl.activate([]*parked.Pod{p})
		}
	}
}

// claimWait makes the pod wait on a node. Memory that is not expected soon is not held against others until it is.
func (pl *Plugin) claimWait(ctx context.Context, s *cycle.State, pod *corev1.Pod, w *preempt.Wait) (*fwk.PostFilterResult, *fwk.Status) {
	now := pl.clock.Now()
	patience := pl.args.WaitBeforeEviction.Duration
	c := gpustate.Claim{MadeAt: now, Deadline: w.Deadline, PatientUntil: now.Add(patience)}
	if !pl.evictor.IsSoon(w.Expected, now) {
		c.HoldsFrom = w.Expected.Add(-patience)
	}
	pl.setClaim(pod, w.Name(), w.Allocation.Devices, c)
	awaited, _ := pl.awaited(s, w.Node, w.Allocation.Devices)
	msg := fmt.Sprintf(waitingOn, w.Name(), awaited)
	pl.history.Waits(ctx, pod, w.Name(), w.Allocation.Devices, awaited)
	if pod.Status.NominatedNodeName != w.Name() {
		pl.event(pod, nil, corev1.EventTypeNormal, eventWaiting, actionWait,
			fmt.Sprintf("Fits on node %s once it need not wait any more: %s; nobody is evicted", w.Name(), awaited))
	}
	return nominate(w.Name()), fwk.NewStatus(fwk.Success, msg)
}

// isOurs says whether a pod is one of this scheduler.
func (pl *Plugin) isOurs(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == pl.handle.ProfileName()
}

// retryAt retries a pod that claims something at a moment.
func (pl *Plugin) retryAt(why string, uid types.UID, at time.Time) {
	pl.timers.at(why+string(uid), at, func() {
		if p := pl.parked.Get(uid); p != nil && pl.tracker.Ledger.ClaimOf(uid) != nil {
			pl.activate([]*parked.Pod{p})
		}
	})
}

func priorityOf(pod *corev1.Pod) int32 { return corev1helpers.PodPriority(pod) }
