// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/preempt"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

const (
	// giveUpFor is how long a pod does not wait again on a node where it waited in vain.
	giveUpFor = 10 * time.Minute
	// goneFor is how long it does not wait on a node that is gone, and that the scheduler's cache may still have.
	goneFor = 10 * time.Second
)

// Follow returns what the pod of the cycle claims, and what the pod is told, if that is still under way, so that nothing
// else is done for it: upstream alone would forget the nomination, or evict a second time, exactly while a dead process
// drains. Everything is judged again, by the framework's own filters. Claims lives in package claims, see its drawing.
func (f *Follower) Follow(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod) (claim *gpustate.Entry, msg string) {
	e := f.Tracker.Ledger.ClaimOf(pod.UID)
	if e == nil {
		return nil, ""
	}
	if f.Evictor.IsRunning(pod) {
		return e, fmt.Sprintf("evicting %s on node %s", words.Plural(len(e.Claim.Victims), "pod"), e.Node)
	}
	next := *e.Claim
	left, alive := f.victimsLeft(&next)
	if alive {
		f.reject(ctx, pod, e, "victim-not-evicted", "")
		return nil, ""
	}
	ni, err := f.NodeInfo(e.Node)
	node, gone := f.Nodes.Get(e.Node)
	if err != nil || gone != nil { // the snapshot may still have it
		f.Claims.GiveUp(pod.UID, e.Node, f.Clock.Now().Add(goneFor))
		f.reject(ctx, pod, e, "node-gone", "the node is gone")
		return nil, ""
	}
	now := f.Clock.Now()
	devices, status := f.judge(ctx, s, state, pod, ni, node, e)
	switch {
	case status.Code() == fwk.Error:
		return e, fmt.Sprintf(waitingOn, e.Node, "it could not be looked at: "+status.Message())
	case !status.IsSuccess() && (status.Plugin() != config.Name || status.Code() == fwk.UnschedulableAndUnresolvable):
		// It is not the memory, or no memory that comes back would help.
		f.reject(ctx, pod, e, "node-refused", status.Message())
		return nil, ""
	case !status.IsSuccess():
		if !e.IsLost() {
			f.dropped(ctx, pod, e, "no-longer-fits", status.Message())
			next.PatientUntil = now.Add(f.Args.WaitBeforeEviction.Duration)
		}
		if left == 0 || now.After(next.PatientUntil) {
			f.Drop(pod)
			return nil, ""
		}
		if e = f.Claim(pod, e.Node, nil, next); e == nil {
			return nil, ""
		}
		return e, fmt.Sprintf(lostPlace, e.Node, words.Plural(left, "pod"))
	case now.After(next.Deadline):
		awaited, inMemory := f.awaited(s, ni, devices)
		note := fmt.Sprintf("Does not wait for node %s any longer: %s; trying another way", e.Node, awaited)
		if inMemory {
			note = fmt.Sprintf("GPU memory on node %s did not come back within %s: %s; trying another way", e.Node,
				f.Args.MemoryReturnTimeout.Duration, awaited)
		}
		f.Event(pod, nil, corev1.EventTypeWarning, words.EventMemoryNotBack, words.ActionWait, note)
		f.Claims.GiveUp(pod.UID, e.Node, now.Add(giveUpFor))
		f.reject(ctx, pod, e, "memory-not-returned", "")
		return nil, ""
	}
	if e.IsLost() { // its place is back
		next.PatientUntil = time.Time{}
	}
	if e = f.Claim(pod, e.Node, devices, next); e == nil {
		return nil, ""
	}
	awaited, _ := f.awaited(s, ni, devices)
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
func (f *Follower) victimsLeft(c *gpustate.Claim) (left int, alive bool) {
	for _, v := range c.Victims {
		got, err := f.Pods.Pods(v.Namespace).Get(v.Name)
		if err != nil || got.UID != v.UID {
			continue // gone
		}
		left++
		if got.DeletionTimestamp == nil {
			alive = alive || !f.Claims.IsEvicted(v)
			continue
		}
		// Its grace period is its own; the time for its memory to come back begins after it.
		if at := got.DeletionTimestamp.Add(f.Args.MemoryReturnTimeout.Duration); at.After(c.Deadline) {
			c.Deadline = at
		}
	}
	return left, alive
}

// judge says whether a pod fits on the node of its claim once all that is on its way is back, and everyone has loaded,
// by the framework's filters; and on which devices: those that it claims, if they will still do. node is the newest that
// is known of the node itself.
func (f *Follower) judge(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod, ni fwk.NodeInfo, node *corev1.Node, e *gpustate.Entry) ([]alloc.DeviceShare, *fwk.Status) {
	comingBack := f.Claims.ComingBackOn(e.Node, pod.UID)
	victims := sets.New[types.UID]()
	for _, v := range e.Claim.Victims {
		victims.Insert(v.UID)
	}
	assumed := s.Assume(true, victims, comingBack)
	t := f.Evictor.NewTrial(ctx, state, assumed, pod, ni)
	t.SetNode(node)
	if status := t.RemoveGone(victims, comingBack); !status.IsSuccess() {
		return nil, status
	}
	if status := t.Fits(); !status.IsSuccess() {
		if view := assumed.View(ni); status.Plugin() == config.Name && shared.IsPassing(view.Reason) {
			return e.Allocation.Devices, nil // nothing is known to be against it, and that may be over soon
		}
		return nil, status
	}
	view := assumed.View(ni)
	// That a pod would be alone on its devices is not for Validate to say.
	if len(e.Allocation.Devices) > 0 && s.Request.Company.Sharing != berthv1alpha1.ShareNone && alloc.Validate(&view.Node, e.Allocation.Devices) == nil {
		return e.Allocation.Devices, nil
	}
	best, ok := alloc.Best(&view.Node, s.Request.On(&view.Node), f.Args.Strategy)
	if !ok {
		return nil, fwk.NewStatus(fwk.Unschedulable, string(gpustate.ReasonInsufficientMemory)).WithPlugin(config.Name)
	}
	return best.Devices, nil
}

// reject gives a claim up, lets others have what it held, and tells the pod's owner why, if there is more to tell than
// an Event of its own does.
func (f *Follower) reject(ctx context.Context, pod *corev1.Pod, e *gpustate.Entry, reason, why string) {
	f.dropped(ctx, pod, e, reason, why)
	if why != "" {
		f.Event(pod, nil, corev1.EventTypeNormal, words.EventClaimDropped, words.ActionWait,
			fmt.Sprintf("Does not wait for node %s any longer: %s; trying another way", e.Node, why))
	}
	f.Drop(pod)
}

func (f *Follower) dropped(ctx context.Context, pod *corev1.Pod, e *gpustate.Entry, reason, why string) {
	f.Dropped.WithLabelValues(reason).Inc()
	f.History.Dropped(ctx, pod, e.Node, reason, why)
}

// Claim claims devices for a pod, and retries it when its time is over; what it claimed elsewhere is free for others.
// Nil if the pod is gone, or booked.
func (f *Follower) Claim(pod *corev1.Pod, node string, devices []alloc.DeviceShare, c gpustate.Claim) *gpustate.Entry {
	before, err := f.Tracker.Ledger.Claim(pod, node, devices, c)
	if err != nil {
		return nil
	}
	if !f.Exists(pod) {
		f.Drop(pod) // nobody else would: that it is gone may have been told before
		return nil
	}
	if before != nil && !before.IsLost() && (before.Node != node || len(devices) == 0) {
		f.Wake.RoomLeft(before.Node, pod.UID)
	}
	f.Wake.Needs.Add(pod)
	f.Wake.RetryAt("claim/", pod.UID, c.Deadline)
	if !c.PatientUntil.IsZero() {
		f.Wake.RetryAt("patience/", pod.UID, c.PatientUntil)
	}
	return f.Tracker.Ledger.ClaimOf(pod.UID)
}

// Drop takes back what a pod claims, and lets others have it.
func (f *Follower) Drop(pod *corev1.Pod) {
	if before := f.Tracker.Ledger.Unclaim(pod.UID); before != nil {
		f.Wake.RoomLeft(before.Node, pod.UID)
	}
}

// Bound measures how long the victims of a pod that is bound took to make room, and lets others have what it claimed
// elsewhere, if it did.
func (f *Follower) Bound(claim *gpustate.Entry) {
	if claim == nil {
		return
	}
	f.Wake.NodeChanged(claim.Node)
	if len(claim.Claim.Victims) > 0 {
		f.EvictionToBind.Observe(f.Clock.Now().Sub(claim.Claim.MadeAt).Seconds())
	}
}

// ClaimForUntried makes the claims of pods that were nominated before this process knew them, by the scheduler before a
// restart: where they fit once the memory that is on its way back is back.
func (f *Follower) ClaimForUntried(viewer *gpustate.Viewer) {
	for _, pod := range f.Claims.Untried() {
		ni, err := f.NodeInfo(pod.Status.NominatedNodeName)
		r := f.Wake.Requests.Of(pod)
		if err != nil || r.Request == nil {
			continue
		}
		q := gpustate.Query{
			Pod: pod.UID, Runtime: r.Request.Runtime, Company: r.Request.Company, Priority: corev1helpers.PodPriority(pod), Drained: true, Loaded: true,
		}
		view := viewer.View(ni.Node(), cycle.PodsOf(ni), &q)
		best, ok := alloc.Best(&view.Node, r.Request.On(&view.Node), f.Args.Strategy)
		if view.Reason != "" || !ok {
			continue
		}
		now := f.Clock.Now()
		if f.Claim(pod, view.Name, best.Devices, gpustate.Claim{MadeAt: now, Deadline: f.Evictor.WaitDeadline(ni)}) != nil {
			f.Claims.Tried(pod.UID)
		}
	}
}

// NominationSeen notes a pod that somebody else nominated, and retries one that lost its nomination: whether it keeps
// its claim is for its next cycle to say.
func (f *Follower) NominationSeen(before, pod *corev1.Pod) {
	switch nominated := pod.Status.NominatedNodeName; {
	case pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil:
		f.Claims.Tried(pod.UID)
	case nominated != "":
		if f.Wake.Parked.Get(pod.UID) == nil && f.Tracker.Ledger.Get(pod.UID) == nil && f.IsOurs(pod) {
			f.Claims.Nominated(pod)
		}
	case before != nil && before.Status.NominatedNodeName != "":
		f.Claims.Tried(pod.UID)
		if p := f.Wake.Parked.Get(pod.UID); p != nil && f.Tracker.Ledger.ClaimOf(pod.UID) != nil {
			f.Wake.Activate([]*parked.Pod{p})
		}
	}
}

// Wait makes the pod wait on a node. Memory that is not expected soon is not held against others until it is.
func (f *Follower) Wait(ctx context.Context, s *cycle.State, pod *corev1.Pod, w *preempt.Wait) (*fwk.PostFilterResult, *fwk.Status) {
	now := f.Clock.Now()
	patience := f.Args.WaitBeforeEviction.Duration
	c := gpustate.Claim{MadeAt: now, Deadline: w.Deadline, PatientUntil: now.Add(patience)}
	if !f.Evictor.IsSoon(w.Expected, now) {
		c.HoldsFrom = w.Expected.Add(-patience)
	}
	f.Claim(pod, w.Name(), w.Allocation.Devices, c)
	awaited, _ := f.awaited(s, w.Node, w.Allocation.Devices)
	msg := fmt.Sprintf(waitingOn, w.Name(), awaited)
	f.History.Waits(ctx, pod, w.Name(), w.Allocation.Devices, awaited)
	if pod.Status.NominatedNodeName != w.Name() {
		f.Event(pod, nil, corev1.EventTypeNormal, words.EventWaiting, words.ActionWait,
			fmt.Sprintf("Fits on node %s once it need not wait any more: %s; nobody is evicted", w.Name(), awaited))
	}
	return framework.NewPostFilterResultWithNominatedNode(w.Name()), fwk.NewStatus(fwk.Success, msg)
}
