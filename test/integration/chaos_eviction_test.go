// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// labWithScheduler starts a bare lab whose scheduler the test runs itself.
func labWithScheduler(t *testing.T, args string, handle func(http.ResponseWriter, *http.Request, http.HandlerFunc)) (*harness.Lab, *schedulerProcess) {
	t.Helper()
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	priorityClass(t, lab, "low", 10)
	priorityClass(t, lab, "high", 1000)
	return lab, runScheduler(t, lab, newAPIProxy(t, lab, handle), args)
}

// TestVictimsThatRefuseToDie is about memory that does not come back: an Event says who holds it, another way is tried,
// and when it is back in the end, others can have it.
func TestVictimsThatRefuseToDie(t *testing.T) {
	t.Parallel() // it mostly waits
	lab, _ := labWithScheduler(t, "{staleAfter: 0s, memoryReturnTimeout: 4s}", forwardAll)
	const finalizer = "test.berth.dev/refuse"
	for _, tc := range []struct {
		name   string
		refuse func(*corev1.Pod)
		holds  string
		dies   func(t *testing.T, s *site, pod *corev1.Pod)
	}{
		{
			"the pod does not go", func(p *corev1.Pod) { p.Finalizers = []string{finalizer} }, "pod default/a-the-pod-does-not-go is still terminating and holds 70Gi on GPU 0",
			func(t *testing.T, s *site, pod *corev1.Pod) {
				if err := s.Client.Patch(t.Context(), pod, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))); err != nil {
					t.Fatal(err)
				}
				s.WaitGone(t, pod)
			},
		},
		{
			"its processes do not", func(*corev1.Pod) {}, "processes of the gone pod default/a-its-processes-do-not still hold 70Gi on GPU 0",
			func(*testing.T, *site, *corev1.Pod) {},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t, lab, strings.ReplaceAll(tc.name, " ", "-"), 2, "80Gi")
			a, aa := s.place(s.pod("a", "70Gi", priority("low"), grace(1), tc.refuse))
			s.holdBooked(a, aa)
			b, ba := s.place(s.pod("b", "70Gi", priority("low"), grace(1)))
			s.holdBooked(b, ba)
			preemptor := harness.Create(t, lab, s.pod("preemptor", "60Gi", priority("high")))
			s.waitTerminating(a)
			s.remainsPending(preemptor, 3*time.Second)
			if !s.exists(b) {
				t.Fatal("a second pod was evicted before the time was over")
			}
			s.waitTerminating(b)
			if e := s.events(preemptor, "GPUMemoryNotReturned"); len(e) != 1 || !strings.Contains(e[0], tc.holds) {
				t.Errorf("events %q, want one that says %q", e, tc.holds)
			}
			lab.WaitGone(t, b)
			s.freeMemoryOf(b.UID)
			_, got := lab.WaitBound(t, preemptor)
			if !slices.Equal(uuids(got), uuids(ba)) {
				t.Errorf("the preemptor is on %v, want %v", uuids(got), uuids(ba))
			}
			rest := harness.Create(t, lab, s.pod("rest", "60Gi", priority("low")))
			lab.WaitUnschedulable(t, rest)
			tc.dies(t, s, a)
			s.freeMemoryOf(a.UID)
			lab.WaitBound(t, rest)
			s.noNominations()
		})
	}
}

// TestSchedulerKilledWhileEvicting kills the scheduler at each write of an eviction, and at the bind: before the write
// takes effect, or after it without an answer. The next one evicts nobody else, and binds the pod.
func TestSchedulerKilledWhileEvicting(t *testing.T) {
	t.Parallel() // it mostly waits
	var armed atomic.Pointer[killPoint]
	lab, scheduler := labWithScheduler(t, "{staleAfter: 0s, bindTimeout: 2s}", func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		at := armed.Load()
		if at == nil || !at.matches(r) || at.seen.Add(1) != at.nth {
			forward(w, r)
			return
		}
		if !at.before {
			forward(httptest.NewRecorder(), r)
		}
		close(at.reached)
		select {
		case <-at.killed:
		case <-r.Context().Done():
		}
	})
	for test, at := range []*killPoint{
		{name: "before the first victim is marked", method: http.MethodPatch, path: "/status", subject: "victim-", nth: 1, before: true},
		{name: "before the first victim is deleted", method: http.MethodDelete, subject: "victim-", nth: 1, before: true},
		{name: "after the first victim is deleted", method: http.MethodDelete, subject: "victim-", nth: 1},
		{name: "after both are deleted", method: http.MethodDelete, subject: "victim-", nth: 2},
		{name: "before the preemptor is nominated", method: http.MethodPatch, path: "/status", subject: "preemptor", nth: 1, before: true},
		{name: "after the preemptor is nominated", method: http.MethodPatch, path: "/status", subject: "preemptor", nth: 1},
		{name: "before the bind", method: http.MethodPost, path: "/binding", subject: "preemptor", nth: 1, before: true},
		{name: "after the bind", method: http.MethodPost, path: "/binding", subject: "preemptor", nth: 1},
	} {
		t.Run(at.name, func(t *testing.T) {
			s := newSite(t, lab, strings.ReplaceAll(at.name, " ", "-"), 4, "80Gi")
			victims := make([]*corev1.Pod, 4)
			for i := range victims {
				pod, a := s.place(s.pod(fmt.Sprintf("victim-%d-%d", test, i), "70Gi", priority("low"), grace(1)))
				s.holdBooked(pod, a)
				victims[i] = pod
			}
			at.reached, at.killed = make(chan struct{}), make(chan struct{})
			armed.Store(at)
			preemptor := harness.Create(t, lab, s.pod(fmt.Sprintf("preemptor-%d", test), "120Gi", counts("2"), priority("high")))
			freed := s.freeWhenGone(victims)
			defer func() { freed() }()
			select {
			case <-at.reached:
			case <-time.After(20 * time.Second):
				t.Fatal("the write did not happen")
			}
			armed.Store(nil)
			scheduler.kill()
			close(at.killed)
			scheduler.start()
			lab.WaitBound(t, preemptor)
			evicted := 0
			for _, v := range victims {
				if !s.exists(v) {
					evicted++
				}
			}
			if evicted != 2 {
				t.Errorf("%d pods were evicted, want 2", evicted)
			}
			s.noNominations()
			checkBooks(t, lab)
			// Nothing is held: what the victims left over can be had.
			s.place(s.pod(fmt.Sprintf("rest-%d", test), "18Gi", priority("low")))
		})
	}
}

// killPoint is a write during which the scheduler is killed.
type killPoint struct {
	name, method, path, subject string
	nth                         int64
	before                      bool
	seen                        atomic.Int64
	reached, killed             chan struct{}
}

func (k *killPoint) matches(r *http.Request) bool {
	return r.Method == k.method && strings.Contains(r.URL.Path, "/pods/"+k.subject) && strings.HasSuffix(r.URL.Path, k.path)
}

// TestAgentsSilentWhileEvicting: the agent of the node on which a pod was evicted falls silent. Nobody else is evicted
// for the same need, nothing is placed on what is not known, and when the agent is back, so is the preemptor.
func TestAgentsSilentWhileEvicting(t *testing.T) {
	t.Parallel() // it mostly waits
	lab, _ := labWithScheduler(t, "{staleAfter: 15s, memoryReturnTimeout: 60s}", forwardAll)
	first, second := newSite(t, lab, "first", 1, "80Gi"), newSite(t, lab, "second", 2, "80Gi")
	stop := make(map[*site]context.CancelFunc)
	for _, s := range []*site{first, second} {
		stop[s] = s.renewLease()
	}
	// A GPU that cannot help: whenever it becomes healthy, those that wait are tried again.
	second.hold(1, "", "75Gi")
	anywhere := func(p *corev1.Pod) { p.Spec.NodeSelector = nil }
	a, aa := first.place(first.pod("a", "70Gi", priority("low"), grace(1)))
	first.holdBooked(a, aa)
	b, ba := second.place(second.pod("b", "70Gi", priority("low"), grace(1)))
	second.holdBooked(b, ba)
	preemptor := harness.Create(t, lab, first.pod("preemptor", "60Gi", priority("high"), anywhere))
	first.waitTerminating(a)
	stop[first]()
	lab.WaitGone(t, a)
	for range 10 {
		first.remainsPending(preemptor, 2*time.Second)
		second.edit = func(g *berthtesting.GPUNode) { g.At(second.gpu(1)).Unhealthy() }
		second.Report(t, second.report())
		second.edit = nil
		second.Report(t, second.report())
	}
	if !second.exists(b) {
		t.Fatal("a second pod was evicted for the same need")
	}
	first.renewLease()
	first.freeMemoryOf(a.UID)
	if bound, _ := lab.WaitBound(t, preemptor); bound.Spec.NodeName != first.node.Name {
		t.Errorf("the preemptor is on %s", bound.Spec.NodeName)
	}
	first.noNominations()
}

// TestEvictionAgainstConflicts: the apiserver refuses, fails, or loses the answers of a third of the scheduler's writes.
// Every pod is placed, and each evicts one other and no more.
func TestEvictionAgainstConflicts(t *testing.T) {
	t.Parallel() // it mostly waits
	var armed atomic.Bool
	var writes, failed atomic.Int64
	lab, _ := labWithScheduler(t, "{staleAfter: 0s, bindTimeout: 2s}", func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if !armed.Load() || r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/pods/") {
			forward(w, r)
			return
		}
		n := writes.Add(1)
		if n%3 != 0 {
			forward(w, r)
			return
		}
		failed.Add(1)
		status := apierrors.NewInternalError(errors.New("no leader")).Status()
		switch n % 9 {
		case 3:
			status = apierrors.NewConflict(corev1.Resource("pods"), "pod", errors.New("the object has been modified")).Status()
		case 6:
			forward(httptest.NewRecorder(), r) // it takes effect, but the answer is lost
		}
		writeStatus(w, &status)
	})
	const pairs = 8
	s := newSite(t, lab, "conflicts", pairs*2, "80Gi")
	victims := make([]*corev1.Pod, pairs*2)
	for i := range victims {
		pod, a := s.place(s.pod(fmt.Sprintf("victim-%02d", i), "70Gi", priority("low"), grace(1)))
		s.holdBooked(pod, a)
		victims[i] = pod
	}
	freed := s.freeWhenGone(victims)
	defer func() { freed() }()
	armed.Store(true)
	preemptors := make([]*corev1.Pod, pairs)
	for i := range preemptors {
		preemptors[i] = harness.Create(t, lab, s.pod(fmt.Sprintf("preemptor-%d", i), "60Gi", priority("high")))
	}
	for _, p := range preemptors {
		lab.WaitBound(t, p)
	}
	evicted := 0
	for _, v := range victims {
		if !s.exists(v) {
			evicted++
		}
	}
	if evicted != pairs {
		t.Errorf("%d pods were evicted for %d preemptors", evicted, pairs)
	}
	if failed.Load() == 0 {
		t.Error("no write failed, so nothing was tested")
	}
	s.noNominations()
	checkBooks(t, lab)
	s.place(s.pod("rest", "18Gi", priority("low")))
}

// writeStatus answers a request as the apiserver does when it fails.
func writeStatus(w http.ResponseWriter, status *metav1.Status) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status) // the client may be gone
}

// waitTerminating waits until a pod is being deleted, or gone.
func (s *site) waitTerminating(pod *corev1.Pod) {
	s.t.Helper()
	harness.Eventually(s.t, pod.Name+" is evicted", func(context.Context) (bool, string) { return !s.exists(pod), "it is there" })
}

// freeWhenGone reports the memory of pods free as soon as they are gone, until the returned function is called.
func (s *site) freeWhenGone(pods []*corev1.Pod) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		left := slices.Clone(pods)
		for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			left = slices.DeleteFunc(left, func(p *corev1.Pod) bool {
				err := s.Client.Get(ctx, client.ObjectKeyFromObject(p), &corev1.Pod{})
				if !apierrors.IsNotFound(err) {
					return false
				}
				for i := range s.count {
					delete(s.held[i], p.UID)
				}
				if err := s.TryReport(ctx, s.report()); err != nil && ctx.Err() == nil {
					s.t.Error(err)
				}
				return true
			})
		}
	}()
	return func() { cancel(); <-done }
}

// renewLease renews the Lease of the site's agent, as agents do, until the returned function is called.
func (s *site) renewLease() context.CancelFunc {
	ctx, cancel := context.WithCancel(s.t.Context())
	renew := func() error {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: s.node.Name, Namespace: berthv1alpha1.Namespace}}
		now := metav1.NowMicro()
		err := s.Client.Get(ctx, client.ObjectKeyFromObject(lease), lease)
		lease.Spec.RenewTime = &now
		if apierrors.IsNotFound(err) {
			return s.Client.Create(ctx, lease)
		}
		if err != nil {
			return err
		}
		return s.Client.Update(ctx, lease)
	}
	if err := renew(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
				if err := renew(); err != nil && ctx.Err() == nil {
					s.t.Error(err)
				}
			}
		}
	}()
	return cancel
}

// noNominations checks that no nomination outlived its purpose.
func (s *site) noNominations() { noNominations(s.t, s.Lab) }

func noNominations(t *testing.T, lab *harness.Lab) {
	t.Helper()
	var pods corev1.PodList
	if err := lab.Client.List(t.Context(), &pods, client.InNamespace("default")); err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		if n := pods.Items[i].Status.NominatedNodeName; n != "" {
			t.Errorf("pod %s is still nominated to %s", pods.Items[i].Name, n)
		}
	}
}
