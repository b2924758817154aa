// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package preempt

import (
	"context"
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

// Wait is a node on which the pod fits once memory is back.
type Wait struct {
	Node       fwk.NodeInfo
	Allocation alloc.Allocation
	score      int64
	// Expected is when the memory should be back, and Deadline when that is given up.
	Expected, Deadline time.Time
}

// Name is the node's.
func (w *Wait) Name() string { return w.Node.Node().Name }

// FindWait looks for a node on which the pod only has to wait: for the memory of processes whose pod is gone, of pods
// that terminate, for pods that load. Foreign memory does not come back. Nil if there is none.
func (e *Evictor) FindWait(ctx context.Context, s *cycle.State, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) (*Wait, error) {
	nodes, err := m.NodesForStatusCode(e.Handle.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return nil, err
	}
	comingBack := e.Claims.ComingBack(pod.UID)
	now := e.Clock.Now()
	drained := s.Assume(true)
	var mu sync.Mutex
	var found []*Wait
	e.Handle.Parallelizer().Until(ctx, len(nodes), func(i int) {
		if w := e.waitOn(ctx, s, drained, state, pod, nodes[i], comingBack, now); w != nil {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, w)
		}
	}, e.Plugin)
	if len(found) == 0 {
		return nil, nil
	}
	return slices.MinFunc(found, func(a, b *Wait) int {
		sa, sb := e.IsSoon(a.Expected, now), e.IsSoon(b.Expected, now)
		if sa != sb {
			return first(sa)
		}
		// Where the pod is nominated already it stays.
		if na, nb := a.Name() == pod.Status.NominatedNodeName, b.Name() == pod.Status.NominatedNodeName; na != nb {
			return first(na)
		}
		if !sa && !a.Expected.Equal(b.Expected) {
			return a.Expected.Compare(b.Expected)
		}
		if a.score != b.score {
			return int(b.score - a.score)
		}
		return strings.Compare(a.Name(), b.Name())
	}), nil
}

// first is the result of a comparison that the left side wins, or loses.
func first(left bool) int {
	if left {
		return -1
	}
	return 1
}

// IsSoon says of when memory is expected whether waiting for it is better than to evict somebody.
func (e *Evictor) IsSoon(expected, now time.Time) bool {
	return expected.Sub(now) <= e.WaitBeforeEviction
}

// waitOn says whether the pod would fit on a node once memory is back: its GPU memory, and by the framework's own
// filters all its other needs, once terminating pods and those of comingBack are gone. drained is the state in which none
// of the latter are there.
func (e *Evictor) waitOn(ctx context.Context, s, drained *cycle.State, state fwk.CycleState, pod *corev1.Pod, ni fwk.NodeInfo, comingBack claims.ComingBack, now time.Time) *Wait {
	name := ni.Node().Name
	if e.Claims.HasGivenUp(pod.UID, name, now) {
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
	t := e.NewTrial(ctx, state, assumed, pod, ni)
	if !t.RemoveGone(gone).IsSuccess() || !t.Fits().IsSuccess() {
		return nil
	}
	best, ok := alloc.Best(&view.Node, s.Request.On(&view.Node), e.Strategy)
	if !ok {
		return nil
	}
	return &Wait{
		Node: ni, Allocation: best, score: alloc.Score(&view.Node, &best, e.Strategy),
		Expected: expected(ni, comingBack, now), Deadline: e.WaitDeadline(ni),
	}
}

// expected is when memory that is on its way back on a node should be there: when the grace periods of the pods that go
// are over. Processes that drain need seconds. How long a pod loads is not known; that it takes longer than
// waitBeforeEviction shows.
func expected(ni fwk.NodeInfo, comingBack claims.ComingBack, now time.Time) time.Time {
	latest, coming := now, comingBack[ni.Node().Name]
	for _, pi := range ni.GetPods() {
		pod := pi.GetPod()
		switch {
		case pod.DeletionTimestamp != nil:
			latest = later(latest, pod.DeletionTimestamp.Time)
		case len(coming) > 0 && coming.Has(pod.UID) && pod.Spec.TerminationGracePeriodSeconds != nil:
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

// WaitDeadline is how long a pod may wait on a node: until the terminating pods' grace periods and the loading pods'
// time are over, and then for the time that memory may take to come back.
func (e *Evictor) WaitDeadline(ni fwk.NodeInfo) time.Time {
	latest := e.Clock.Now()
	for _, pi := range ni.GetPods() {
		pod := pi.GetPod()
		if pod.DeletionTimestamp != nil {
			latest = later(latest, pod.DeletionTimestamp.Time)
		}
		if booked := e.Ledger.Get(pod.UID); booked == nil || booked.Allocation == nil {
			continue
		}
		if until, loading := gpustate.LoadingUntil(pod, e.LoadTimeout); loading {
			latest = later(latest, until)
		}
	}
	return latest.Add(e.MemoryReturnTimeout)
}
