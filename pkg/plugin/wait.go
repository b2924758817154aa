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
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// waitingPlace is a node on which the pod fits once memory is back.
type waitingPlace struct {
	node       fwk.NodeInfo
	allocation alloc.Allocation
	score      int64
	// expected is when the memory should be back, and deadline when that is given up.
	expected, deadline time.Time
}

func (w *waitingPlace) name() string { return w.node.Node().Name }

// findWait looks for a node on which the pod only has to wait: for the memory of processes whose pod is gone, of pods
// that terminate, for pods that load. Foreign memory does not come back. Nil if there is none.
func (pl *Plugin) findWait(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*waitingPlace, error) {
	nodes, err := m.NodesForStatusCode(pl.handle.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return nil, err
	}
	comingBack := pl.claims.ComingBack(pod.UID)
	now := pl.clock.Now()
	drained := s.Assume(true)
	var mu sync.Mutex
	var found []*waitingPlace
	pl.handle.Parallelizer().Until(ctx, len(nodes), func(i int) {
		if w := pl.waitOn(ctx, s, drained, state, pod, nodes[i], comingBack, now); w != nil {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, w)
		}
	}, Name)
	if len(found) == 0 {
		return nil, nil
	}
	return slices.MinFunc(found, func(a, b *waitingPlace) int {
		sa, sb := pl.isSoon(a.expected, now), pl.isSoon(b.expected, now)
		if sa != sb {
			return first(sa)
		}
		// Where the pod is nominated already it stays.
		if na, nb := a.name() == pod.Status.NominatedNodeName, b.name() == pod.Status.NominatedNodeName; na != nb {
			return first(na)
		}
		if !sa && !a.expected.Equal(b.expected) {
			return a.expected.Compare(b.expected)
		}
		if a.score != b.score {
			return int(b.score - a.score)
		}
		return strings.Compare(a.name(), b.name())
	}), nil
}

// first is the result of a comparison that the left side wins, or loses.
func first(left bool) int {
	if left {
		return -1
	}
	return 1
}

// isSoon says of when memory is expected whether waiting for it is better than to evict somebody.
func (pl *Plugin) isSoon(expected, now time.Time) bool {
	return expected.Sub(now) <= pl.args.WaitBeforeEviction.Duration
}

// waitOn says whether the pod would fit on a node once memory is back: its GPU memory, and by the framework's own
// filters all its other needs, once terminating pods and those of comingBack are gone. drained is the state in which none
// of the latter are there.
func (pl *Plugin) waitOn(ctx context.Context, s, drained *cycle.State, state fwk.CycleState, pod *corev1.Pod, ni fwk.NodeInfo, comingBack claims.ComingBack, now time.Time) *waitingPlace {
	name := ni.Node().Name
	if pl.claims.HasGivenUp(pod.UID, name, now) {
		return nil
	}
	gone, assumed := cycle.On(ni, comingBack), drained
	if gone != nil {
		assumed = s.Assume(true, gone)
	}
	view := assumed.View(ni)
	if !s.Fit(&view).Fits {
		return nil
	}
	if view := s.View(ni); s.Fit(&view).Fits {
		return nil // it is not the memory that it lacks here
	}
	t := newTrial(ctx, pl.evictor, state, assumed, pod, ni)
	if !t.removeGone(gone).IsSuccess() || !t.fits().IsSuccess() {
		return nil
	}
	best, ok := alloc.Best(&view.Node, &s.Request.Request, pl.args.Strategy)
	if !ok {
		return nil
	}
	return &waitingPlace{
		node: ni, allocation: best, score: alloc.Score(&view.Node, &best, pl.args.Strategy),
		expected: pl.expected(ni, comingBack, now), deadline: pl.waitDeadline(ni),
	}
}

// expected is when memory that is on its way back on a node should be there: when the grace periods of the pods that go
// are over. Processes that drain need seconds. How long a pod loads is not known; that it takes longer than
// waitBeforeEviction shows.
func (pl *Plugin) expected(ni fwk.NodeInfo, comingBack claims.ComingBack, now time.Time) time.Time {
	latest := now
	for _, pi := range ni.GetPods() {
		pod := pi.GetPod()
		switch {
		case pod.DeletionTimestamp != nil:
			latest = later(latest, pod.DeletionTimestamp.Time)
		case comingBack[pod.Spec.NodeName].Has(pod.UID) && pod.Spec.TerminationGracePeriodSeconds != nil:
			latest = later(latest, now.Add(time.Duration(*pod.Spec.TerminationGracePeriodSeconds)*time.Second))
		}
	}
	return latest
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// waitDeadline is how long a pod may wait on a node: until the terminating pods' grace periods and the loading pods'
// time are over, and then for the time that memory may take to come back.
func (pl *Plugin) waitDeadline(ni fwk.NodeInfo) time.Time {
	latest := pl.clock.Now()
	for _, pi := range ni.GetPods() {
		pod := pi.GetPod()
		if pod.DeletionTimestamp != nil {
			latest = later(latest, pod.DeletionTimestamp.Time)
		}
		if e := pl.tracker.Ledger.Get(pod.UID); e == nil || e.Allocation == nil {
			continue
		}
		if until, loading := gpustate.LoadingUntil(pod, pl.args.LoadTimeout.Duration); loading {
			latest = later(latest, until)
		}
	}
	return latest.Add(pl.args.MemoryReturnTimeout.Duration)
}

// claimWait makes the pod wait on a node. Memory that is not expected soon is not held against others until it is.
func (pl *Plugin) claimWait(s *cycle.State, pod *corev1.Pod, w *waitingPlace) (*fwk.PostFilterResult, *fwk.Status) {
	now := pl.clock.Now()
	patience := pl.args.WaitBeforeEviction.Duration
	c := gpustate.Claim{MadeAt: now, Deadline: w.deadline, PatientUntil: now.Add(patience)}
	if !pl.isSoon(w.expected, now) {
		c.HoldsFrom = w.expected.Add(-patience)
	}
	pl.setClaim(pod, w.name(), w.allocation.Devices, c)
	awaited, _ := pl.awaited(s, w.node, w.allocation.Devices)
	msg := fmt.Sprintf(waitingOn, w.name(), awaited)
	if pod.Status.NominatedNodeName != w.name() {
		pl.event(pod, nil, corev1.EventTypeNormal, eventWaiting, actionWait,
			fmt.Sprintf("Fits on node %s once it need not wait any more: %s; nobody is evicted", w.name(), awaited))
	}
	return nominate(w.name()), fwk.NewStatus(fwk.Success, msg)
}
