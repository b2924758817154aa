// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/leader"
)

// recoveryFixture is a scheduler that has just become the leader: its informer told of one pod; the last leader's
// final Binding is in the API, and has not come through the watch.
func recoveryFixture(t *testing.T) (*fixture, *corev1.Pod) {
	f := newFixture(t)
	f.pl.recovery.SetDone(false)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	known := bt.MakePod("known").Memory("20Gi").Bound("node", epoch, "GPU-0=20Gi").Started(epoch).Ready(epoch)
	late := bt.MakePod("late").Memory("50Gi").Bound("node", epoch, "GPU-0=50Gi").Obj()
	f.running(known)
	f.api.add(known.Obj(), late, bt.MakePod("pending").Memory("30Gi").Obj())
	return f, late
}

// takeOver starts what a new leader does, and lets time pass for it until the test ends.
func (f *fixture) takeOver() {
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(f.ctx)
	go func() { f.pl.recovery.TakeOver(ctx); close(done) }()
	f.t.Cleanup(func() { cancel(); <-done })
}

func (f *fixture) recovered() {
	f.t.Helper()
	f.eventually("recovering", func() bool {
		if f.clock.HasWaiters() {
			f.clock.Step(time.Second)
		}
		return f.pl.recovery.Done()
	})
}

func TestFirstCycleOfATermKnowsTheLastBindings(t *testing.T) {
	f, late := recoveryFixture(t)
	pod := bt.MakePod("pending").Memory("30Gi").Obj()
	f.takeOver()
	f.recovered()
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
	f.wantState("not told by the informer yet", late, gpustate.Unknown)
	f.pl.feed.PodSeen(late)
	f.wantState("told by the informer", late, gpustate.Confirmed)
	// Of whatever scheduler they are: the profile may have had another name.
	want := "labelSelector=berth.dev/allocated=true fieldSelector=spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
	if diff := cmp.Diff([]string{want}, f.api.lists()); diff != "" {
		t.Errorf("lists (-want +got):\n%s", diff)
	}
}

// TestRecoveredPodThatIsGone: the informer never had it, so it will never tell that it is gone.
func TestRecoveredPodThatIsGone(t *testing.T) {
	f, late := recoveryFixture(t)
	f.takeOver()
	f.recovered()
	f.api.remove("late")
	f.eventually("finding out", func() bool {
		if f.clock.HasWaiters() {
			f.clock.Step(5 * time.Second)
		}
		return f.state(late) == 0
	})
	f.wantFree("afterwards", "node", 60)
}

// TestNothingIsPlacedBeforeTheBooksAreRight, and pods are told what keeps the books from being read.
func TestNothingIsPlacedBeforeTheBooksAreRight(t *testing.T) {
	f, _ := recoveryFixture(t)
	pod := bt.MakePod("pending").Memory("30Gi").Obj()
	f.known(pod)
	try := func(what string, pod *corev1.Pod, code fwk.Code, reason alloc.Reason) {
		t.Helper()
		wantStatus(t, what, second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())), code, reason)
	}
	f.api.failReads(apierrors.NewServiceUnavailable("away"))
	f.takeOver()
	f.eventually("saying why", func() bool {
		return strings.Contains(f.pl.recovery.Pending(), "reading the bound pods before the first placement: away")
	})
	try("the API server is away", pod, unresolvable, "")
	try("a plain pod is not kept out", bt.MakePod("plain").Obj(), fwk.Skip, "")
	f.wantActivated("while it is away")
	f.api.failReads(nil)
	f.recovered()
	f.eventually("retrying", func() bool { return slices.Equal(f.queue.take(), []string{"pending"}) })
	wantStatus(t, "the API server is back", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
}

// TestTheFirstCycleWaitsForTheBooks: one that failed meanwhile would tell the pod's owner what is over when it is read, and a pod that
// was kept out of the queue would be asked about with each node that a scheduler reads when it starts.
func TestTheFirstCycleWaitsForTheBooks(t *testing.T) {
	f, _ := recoveryFixture(t)
	pod := bt.MakePod("pending").Memory("30Gi").Obj()
	modelled := bt.MakePod("modelled").Model("hf://org/repo").Obj()
	f.follows(leader.New())
	var synced atomic.Bool
	f.pl.recovery.Synced = []cache.InformerSynced{func() bool { return synced.Load() }}
	for _, p := range []*corev1.Pod{pod, modelled} {
		f.known(p)
		wantStatus(t, "a standby queues "+p.Name, f.pl.PreEnqueue(f.ctx, p), fwk.Success, "")
	}
	wantStatus(t, "a standby tries it", second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())), unresolvable, gpustate.ReasonRecovering)
	f.pl.leader.Alone()
	statuses := make(chan *fwk.Status)
	for _, p := range []*corev1.Pod{pod, modelled} {
		go func() { statuses <- second(f.pl.PreFilter(f.ctx, newState(), p, f.nodeInfos())) }()
	}
	synced.Store(true)
	f.takeOver()
	f.recovered()
	got := map[string]bool{}
	for range 2 {
		got[(<-statuses).Message()] = true
	}
	if want := map[string]bool{"": true, string(gpustate.ReasonModelUnknown): true}; !maps.Equal(want, got) {
		t.Errorf("told %v, want %v", got, want)
	}
	wantStatus(t, "its profile is not there", f.pl.PreEnqueue(f.ctx, modelled), unresolvable, gpustate.ReasonModelUnknown)
}

// TestAStandbyRecoversNothing: what it read before it leads would be old.
func TestAStandbyRecoversNothing(t *testing.T) {
	f, _ := recoveryFixture(t)
	f.follows(leader.New())
	f.takeOver()
	if len(f.api.lists()) != 0 {
		t.Error("listed before it led")
	}
	f.pl.leader.Alone()
	f.recovered()
}
