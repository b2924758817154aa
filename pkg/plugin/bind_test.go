// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/flowcontrol"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/leader"
)

// bindFixture has a node with one GPU, and a pod that is reserved there.
func bindFixture(t *testing.T) (*fixture, *corev1.Pod, fwk.CycleState) {
	f := newFixture(t)
	f.pl.args.BindTimeout = &metav1.Duration{Duration: 200 * time.Millisecond}
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	pod := bt.MakePod("a").Memory("30Gi").Obj()
	f.api.add(pod)
	return f, pod, f.reserve(pod, "node")
}

func TestBindWritesNodeAndGPUsTogether(t *testing.T) {
	f, pod, state := bindFixture(t)
	wantStatus(t, "Bind", f.pl.Bind(f.ctx, state, pod, "node"), fwk.Success, "")
	want := map[string]string{
		berthv1alpha1.AnnotationAllocation:           bt.AllocationJSON(custom, "GPU-0=30Gi"),
		berthv1alpha1.AnnotationGPUUUIDs:             "GPU-0",
		berthv1alpha1.AnnotationVisibleDevices:       "runtime.nvidia.com/gpu=GPU-0",
		berthv1alpha1.AnnotationTensorParallelSize:   "1",
		berthv1alpha1.AnnotationTensorSplit:          "30720",
		berthv1alpha1.AnnotationGPUMemoryUtilization: "0.375",
	}
	if len(f.api.bindings) != 1 {
		t.Fatalf("%d Bindings", len(f.api.bindings))
	}
	b := f.api.bindings[0]
	if diff := cmp.Diff(want, b.Annotations); diff != "" || b.UID != pod.UID || b.Target.Name != "node" {
		t.Errorf("Binding of %s to %s (-want +got):\n%s", b.UID, b.Target.Name, diff)
	}
	f.wantState("until the echo", pod, gpustate.Assumed)
	f.pl.feed.PodSeen(f.api.pod("a"))
	f.wantState("after the echo", pod, gpustate.Confirmed)
	f.wantFree("after the echo", "node", 50)
}

// TestBindOutcomes: what an answer to a Binding says of it, and what then becomes of the booking.
func TestBindOutcomes(t *testing.T) {
	forbidden := apierrors.NewForbidden(podResource, "a", nil)
	unavailable := apierrors.NewServiceUnavailable("the server is going away")
	tooMany := apierrors.NewTooManyRequestsError("later")
	timeout := apierrors.NewTimeoutError("the request timed out", 1)
	elsewhere := bt.MakePod("a").Memory("30Gi").Bound("other", epoch, "GPU-9=30Gi").Obj()
	for _, tc := range []struct {
		name    string
		prepare func(*fakeAPI)
		apply   bool
		answer  error
		silent  bool
		// readsFail: the pod cannot be read back.
		readsFail bool
		bound     bool           // what Bind says
		state     gpustate.State // after Unreserve
	}{
		{name: "applied", apply: true, bound: true, state: gpustate.Assumed},
		{name: "refused", answer: forbidden},
		{name: "the pod is gone", prepare: func(a *fakeAPI) { a.remove("a") }, apply: true},
		{name: "the pod is another one of the same name", prepare: func(a *fakeAPI) { a.add(bt.MakePod("a").UID("another").Obj()) }, apply: true},
		{name: "applied, and the answer is an internal error", apply: true, answer: unavailable, bound: true, state: gpustate.Assumed},
		{name: "not applied (yet), and the answer is an internal error", answer: unavailable, state: gpustate.Unknown},
		{name: "asked to come back later, by a proxy perhaps", answer: tooMany, state: gpustate.Unknown},
		{name: "timed out at the server", answer: timeout, state: gpustate.Unknown},
		{name: "applied, and no answer", apply: true, silent: true, bound: true, state: gpustate.Assumed},
		{name: "not applied (yet), and no answer", silent: true, state: gpustate.Unknown},
		{name: "applied, no answer, and it cannot be read back", apply: true, silent: true, readsFail: true, state: gpustate.Unknown},
		{name: "bound already, as reserved, by an attempt whose answer was lost", apply: true, answer: alreadyBound("a"), bound: true, state: gpustate.Assumed},
		{name: "bound already to another node", prepare: func(a *fakeAPI) { a.add(elsewhere) }, apply: true, state: gpustate.Unknown},
		{
			name: "bound already to the same node, with other GPUs", apply: true, state: gpustate.Unknown,
			prepare: func(a *fakeAPI) { a.add(bt.MakePod("a").Memory("30Gi").Bound("node", epoch, "GPU-9=30Gi").Obj()) },
		},
		{
			name: "bound already by somebody else, without an allocation", apply: true,
			prepare: func(a *fakeAPI) { a.add(bt.MakePod("a").Memory("30Gi").Node("node").Obj()) },
		},
		{name: "a conflict of another kind: it is not bound", answer: alreadyBound("a")},
		{name: "a conflict, and it cannot be read back", answer: alreadyBound("a"), readsFail: true, state: gpustate.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, pod, state := bindFixture(t)
			if tc.prepare != nil {
				tc.prepare(f.api)
			}
			f.api.onBind = func(*corev1.Pod) (bool, error, bool) { return tc.apply, tc.answer, tc.silent }
			if tc.readsFail {
				f.api.failReads(unavailable)
			}
			status := f.pl.Bind(f.ctx, state, pod, "node")
			if status.IsSuccess() != tc.bound {
				t.Fatalf("Bind: %v", status)
			}
			if !tc.bound {
				f.pl.Unreserve(f.ctx, state, pod, "node")
			}
			f.wantState("afterwards", pod, tc.state)
			free := uint64(50)
			if tc.state == 0 {
				free = 80
			}
			f.wantFree("afterwards", "node", free)
		})
	}
}

// TestNothingIsSentByOneThatDoesNotLead: the booking is dropped, and the pod can be tried again at once.
func TestNothingIsSentByOneThatDoesNotLead(t *testing.T) {
	f, pod, state := bindFixture(t)
	f.follows(leader.New())
	status := f.pl.Bind(f.ctx, state, pod, "node")
	if !errors.Is(status.AsError(), leader.ErrNotLeading) || len(f.api.bindings) != 0 {
		t.Errorf("Bind: %v, %d Bindings", status, len(f.api.bindings))
	}
	f.pl.Unreserve(f.ctx, state, pod, "node")
	f.wantState("refused", pod, 0)
	f.wantFree("refused", "node", 80)
	f.begin(pod)
}

// TestBindWaitsForItsTurn: the wait comes before the deadline, and who gives up waiting has sent nothing.
func TestBindWaitsForItsTurn(t *testing.T) {
	f, pod, state := bindFixture(t)
	limiter := &fakeLimiter{RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter()}
	f.limit(limiter)
	wantStatus(t, "Bind", f.pl.Bind(f.ctx, state, pod, "node"), fwk.Success, "")
	if limiter.waits != 1 || limiter.deadlines != 0 {
		t.Errorf("waited %d times, %d of them with a deadline", limiter.waits, limiter.deadlines)
	}

	f, pod, state = bindFixture(t)
	f.limit(limiter)
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	if status := f.pl.Bind(ctx, state, pod, "node"); !errors.Is(status.AsError(), context.Canceled) || len(f.api.bindings) != 0 {
		t.Errorf("Bind: %v, %d Bindings", status, len(f.api.bindings))
	}
	f.pl.Unreserve(f.ctx, state, pod, "node")
	f.wantState("given up", pod, 0)
}

// fakeLimiter notes how it is waited for. It refuses a wait that has ended.
type fakeLimiter struct {
	flowcontrol.RateLimiter
	waits, deadlines int
}

func (l *fakeLimiter) Wait(ctx context.Context) error {
	l.waits++
	if _, ok := ctx.Deadline(); ok {
		l.deadlines++
	}
	return ctx.Err()
}

// TestTheLeaseIsKeptWhileABindingMayTakeEffect: giving it up waits for those whose outcome is not known.
func TestTheLeaseIsKeptWhileABindingMayTakeEffect(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer error
		silent bool
		held   bool
	}{
		{name: "bound"},
		{name: "refused", answer: apierrors.NewForbidden(podResource, "a", nil)},
		{name: "a conflict", answer: alreadyBound("a")},
		{name: "no answer", silent: true, held: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, pod, state := bindFixture(t)
			lock := &fakeLock{}
			f.follows(leader.New())
			guarded := f.pl.leader.Guard(lock, func(error) {})
			if err := guarded.Update(f.ctx, resourcelock.LeaderElectionRecord{HolderIdentity: "me", LeaseDurationSeconds: 15}); err != nil {
				t.Fatal(err)
			}
			f.api.onBind = func(*corev1.Pod) (bool, error, bool) { return tc.answer == nil && !tc.silent, tc.answer, tc.silent }
			f.pl.Bind(f.ctx, state, pod, "node")
			now, cancel := context.WithCancel(f.ctx)
			cancel()
			if held := guarded.Update(now, resourcelock.LeaderElectionRecord{}) != nil; held != tc.held {
				t.Errorf("the lease is kept: %v, want %v", held, tc.held)
			}
			f.eventually("giving up", func() bool {
				if f.clock.HasWaiters() {
					f.clock.Step(time.Second)
				}
				return guarded.Update(now, resourcelock.LeaderElectionRecord{}) == nil
			})
		})
	}
}

// fakeLock is a lock of nobody else.
type fakeLock struct{ resourcelock.Interface }

func (*fakeLock) Identity() string { return "me" }

func (*fakeLock) Update(context.Context, resourcelock.LeaderElectionRecord) error { return nil }

// TestBindInDoubt: the pod is not tried again, and its memory not given away, until it is known what became of it.
func TestBindInDoubt(t *testing.T) {
	lose := func(t *testing.T) (*fixture, *corev1.Pod) {
		f, pod, state := bindFixture(t)
		f.api.onBind = func(*corev1.Pod) (bool, error, bool) { return false, nil, true }
		if f.pl.Bind(f.ctx, state, pod, "node").IsSuccess() {
			t.Fatal("bound by an answer that never came")
		}
		f.pl.Unreserve(f.ctx, state, pod, "node")
		f.wantState("in doubt", pod, gpustate.Unknown)
		wantStatus(t, "a cycle in doubt", second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())), unresolvable, gpustate.ReasonBindUnknown)
		f.queue.take()
		return f, pod
	}
	// later lets time pass until a goroutine has done what is expected.
	later := func(f *fixture, what string, done func() bool) {
		f.eventually(what, func() bool {
			if f.clock.HasWaiters() {
				f.clock.Step(5 * time.Second)
			}
			return done()
		})
	}
	t.Run("it did not happen", func(t *testing.T) {
		f, pod := lose(t)
		// It may have arrived just before the client gave up, after 200 ms: then the server's own 200 ms begin.
		f.clock.Step(2*f.pl.args.BindTimeout.Duration + bindGrace - 1)
		f.wantState("while the server may still apply it", pod, gpustate.Unknown)
		later(f, "refuting", func() bool { return f.state(pod) == 0 })
		f.wantFree("refuted", "node", 80)
		f.eventually("retrying", func() bool { return len(f.queue.take()) > 0 })
	})
	t.Run("it happened late", func(t *testing.T) {
		f, pod := lose(t)
		f.api.add(bt.MakePod("a").Memory("30Gi").Bound("node", epoch, "GPU-0=30Gi").Obj())
		reads := f.api.readCount()
		later(f, "reading", func() bool { return f.api.readCount() > reads+1 })
		f.wantState("read as bound, and not told by the informer", pod, gpustate.Unknown)
		f.pl.feed.PodSeen(f.api.pod("a"))
		f.wantState("told by the informer", pod, gpustate.Confirmed)
		later(f, "ending", func() bool { return len(f.queue.take()) > 0 })
		f.wantFree("confirmed", "node", 50)
	})
	t.Run("it happened, and the pod was deleted before the informer had it", func(t *testing.T) {
		f, pod := lose(t)
		f.api.add(bt.MakePod("a").Memory("30Gi").Bound("node", epoch, "GPU-0=30Gi").Obj())
		reads := f.api.readCount()
		later(f, "reading", func() bool { return f.api.readCount() > reads+1 })
		f.api.remove("a")
		later(f, "refuting", func() bool { return f.state(pod) == 0 })
		f.wantFree("nothing is left behind", "node", 80)
	})
	t.Run("somebody else bound it, without an allocation, and the informer told of it before it was reserved", func(t *testing.T) {
		f, pod := lose(t)
		f.api.add(bt.MakePod("a").Memory("30Gi").Node("node").Obj())
		later(f, "refuting", func() bool { return f.state(pod) == 0 })
		f.wantFree("refuted", "node", 80)
	})
	t.Run("the API server is away for a while", func(t *testing.T) {
		f, pod := lose(t)
		f.api.failReads(apierrors.NewServiceUnavailable("away"))
		reads := f.api.readCount()
		later(f, "reading", func() bool { return f.api.readCount() > reads+1 })
		f.wantState("it cannot be told", pod, gpustate.Unknown)
		f.api.failReads(nil)
		later(f, "refuting", func() bool { return f.state(pod) == 0 })
	})
}
