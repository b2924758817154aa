// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// recoveryFixture is a scheduler that has just become the leader: its informer told of one pod; the last leader's
// final Binding is in the API, and has not come through the watch.
func recoveryFixture(t *testing.T) (*fixture, *corev1.Pod) {
	f := newFixture(t)
	f.pl.recovery.done = false
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	known := bt.MakePod("known").Memory("20Gi").Bound("node", epoch, "GPU-0=20Gi").Started(epoch).Ready(epoch)
	late := bt.MakePod("late").Memory("50Gi").Bound("node", epoch, "GPU-0=50Gi").Obj()
	f.running(known)
	f.api.add(known.Obj(), late, bt.MakePod("pending").Memory("30Gi").Obj())
	return f, late
}

func TestFirstCycleOfATermKnowsTheLastBindings(t *testing.T) {
	f, late := recoveryFixture(t)
	pod := bt.MakePod("pending").Memory("30Gi").Obj()
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
	f.wantState("not told by the informer yet", late, gpustate.Unknown)
	if len(f.api.listedBy) != 1 || !strings.Contains(f.api.listedBy[0], "spec.schedulerName=berth") || !strings.Contains(f.api.listedBy[0], "spec.nodeName!=") {
		t.Errorf("listed by %q, want the bound pods of this scheduler, once", f.api.listedBy)
	}
	f.begin(pod)
	if len(f.api.listedBy) != 1 {
		t.Error("the second cycle lists again")
	}
	f.pl.podSeen(late)
	f.wantState("told by the informer", late, gpustate.Confirmed)
}

// TestRecoveredPodThatIsGone: the informer never had it, so it will never tell that it is gone.
func TestRecoveredPodThatIsGone(t *testing.T) {
	f, late := recoveryFixture(t)
	f.begin(bt.MakePod("pending").Memory("30Gi").Obj())
	f.api.remove("late")
	f.eventually("finding out", func() bool {
		if f.clock.HasWaiters() {
			f.clock.Step(5 * time.Second)
		}
		return f.state(late) == 0
	})
	f.wantFree("afterwards", "node", 60)
}

func TestNothingIsPlacedBeforeTheBooksAreRight(t *testing.T) {
	f, _ := recoveryFixture(t)
	pod := bt.MakePod("pending").Memory("30Gi").Obj()
	f.api.failReads(apierrors.NewServiceUnavailable("away"))
	wantStatus(t, "the API server is away", second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())), fwk.Error, "")
	wantStatus(t, "a plain pod does not wait", second(f.pl.PreFilter(f.ctx, newState(), bt.MakePod("plain").Obj(), f.nodeInfos())), fwk.Skip, "")
	f.api.failReads(nil)
	wantStatus(t, "the API server is back", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("node")), fwk.Unschedulable, gpustate.ReasonInsufficientMemory)
}

func TestInformersThatDoNotSync(t *testing.T) {
	f, _ := recoveryFixture(t)
	f.pl.synced = []cache.InformerSynced{func() bool { return false }}
	ctx, cancel := context.WithTimeout(f.ctx, 300*time.Millisecond)
	defer cancel()
	_, status := f.pl.PreFilter(ctx, newState(), bt.MakePod("pending").Memory("30Gi").Obj(), f.nodeInfos())
	if status.Code() != fwk.Error || !strings.Contains(status.Message(), "are the CRDs of berth.dev installed?") {
		t.Errorf("got %v", status)
	}
}
