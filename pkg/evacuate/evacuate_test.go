// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package evacuate

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	testclock "k8s.io/utils/clock/testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// world is an API server and an Evacuator that runs.
type world struct {
	t       *testing.T
	client  *fake.Clientset
	clock   *testclock.FakeClock
	leading atomic.Bool

	mu sync.Mutex
	// refusals is how often the eviction of a pod is still refused.
	refusals map[string]int
	evicted  []string
	tried    []string
	// preconditions are the UIDs that evictions named.
	preconditions []types.UID
}

func newWorld(t *testing.T, refusals map[string]int, objects ...runtime.Object) *world {
	w := &world{
		t: t, client: fake.NewClientset(objects...), clock: testclock.NewFakeClock(time.Now()), refusals: refusals,
	}
	w.leading.Store(true)
	w.client.PrependReactor("create", "pods/eviction", w.evict)
	w.client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() == "eviction" {
			return w.evict(a)
		}
		return false, nil, nil
	})
	return w
}

func (w *world) run() {
	factory := informers.NewSharedInformerFactory(w.client, 0)
	e, err := New(Options{
		Client: w.client, Informers: factory, SchedulerName: berthv1alpha1.SchedulerName, Clock: w.clock,
		Leading: w.leading.Load,
		Tried: func(_ context.Context, pod *corev1.Pod, outcome Outcome, _ error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.tried = append(w.tried, pod.Name+" "+string(outcome))
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	factory.StartWithContext(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(w.t.Context()) })
	w.t.Cleanup(running.Wait)
}

// evict is what the API server does.
func (w *world) evict(a clienttesting.Action) (bool, runtime.Object, error) {
	eviction := a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
	w.mu.Lock()
	w.preconditions = append(w.preconditions, *eviction.DeleteOptions.Preconditions.UID)
	if w.refusals[eviction.Name] > 0 {
		w.refusals[eviction.Name]--
		w.mu.Unlock()
		err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause})
		return true, nil, err
	}
	w.evicted = append(w.evicted, eviction.Name)
	w.mu.Unlock()
	return true, nil, w.client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), eviction.Namespace, eviction.Name)
}

// wait steps the clock until a condition is met.
func (w *world) wait(what string, met func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		ok := met()
		w.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s; tried %v", what, w.tried)
		}
		w.clock.Step(100 * time.Millisecond)
	}
}

func node(name, state string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if state != "" {
		n.Labels = map[string]string{berthv1alpha1.LabelDriverUpgradeState: state}
	}
	return n
}

// pod is one of Berth's that runs on a node.
func pod(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID("uid of " + name),
			Annotations: map[string]string{berthv1alpha1.AnnotationAllocation: "{}"},
		},
		Spec:   corev1.PodSpec{NodeName: node, SchedulerName: berthv1alpha1.SchedulerName},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func TestPodsThatAreEvicted(t *testing.T) {
	now := metav1.Now()
	w := newWorld(t, nil,
		node("waits", "wait-for-jobs-required"), node("deletes", "pod-deletion-required"),
		node("drains", "drain-required"), node("restarts", "pod-restart-required"),
		node("cordons", "cordon-required"), node("done", "upgrade-done"), node("stays", ""),
		pod("a", "waits"), pod("b", "deletes"), pod("c", "drains"), pod("d", "restarts"), pod("loads", "drains", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodPending
		}),
		pod("on-a-node-that-is-to-be-cordoned", "cordons"), pod("on-a-new-driver", "done"), pod("elsewhere", "stays"),
		pod("without-gpus", "drains", func(p *corev1.Pod) { p.Annotations = nil }),
		pod("of-another-scheduler", "drains", func(p *corev1.Pod) { p.Spec.SchedulerName = "default-scheduler" }),
		pod("succeeded", "drains", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("failed", "drains", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		pod("terminating", "drains", func(p *corev1.Pod) { p.DeletionTimestamp, p.Finalizers = &now, []string{"example.test/stay"} }),
	)
	w.run()
	w.wait("five evictions", func() bool { return len(w.evicted) >= 5 })
	// A node is looked at again and again: by then the others would be gone too.
	again := w.clock.Now().Add(3 * lookAgain)
	w.wait("some time", func() bool { return w.clock.Now().After(again) })
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.evicted)
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "loads"}, w.evicted); diff != "" {
		t.Errorf("evicted (-want,+got):\n%s", diff)
	}
	slices.Sort(w.preconditions)
	if diff := cmp.Diff([]types.UID{"uid of a", "uid of b", "uid of c", "uid of d", "uid of loads"}, w.preconditions); diff != "" {
		t.Errorf("preconditions (-want,+got):\n%s", diff)
	}
}

func TestNobodyIsEvictedByOneThatDoesNotLead(t *testing.T) {
	w := newWorld(t, nil, node("n", "drain-required"), pod("a", "n"))
	w.leading.Store(false)
	w.run()
	again := w.clock.Now().Add(3 * lookAgain)
	w.wait("some time", func() bool { return w.clock.Now().After(again) })
	w.mu.Lock()
	tried := len(w.preconditions)
	w.mu.Unlock()
	if tried > 0 {
		t.Fatalf("%d evictions were tried", tried)
	}
	w.leading.Store(true)
	w.wait("the eviction by the new leader", func() bool { return slices.Contains(w.evicted, "a") })
}

func TestWhatABudgetRefusesIsTriedAgain(t *testing.T) {
	w := newWorld(t, map[string]int{"guarded": 3}, node("n", "drain-required"), pod("guarded", "n"), pod("other", "n"))
	w.run()
	w.wait("both evictions", func() bool { return len(w.evicted) == 2 })
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.tried)
	want := []string{"guarded evicted", "guarded refused", "guarded refused", "guarded refused", "other evicted"}
	if diff := cmp.Diff(want, w.tried); diff != "" {
		t.Errorf("tried (-want,+got):\n%s", diff)
	}
	if got := w.evicted; got[0] != "other" {
		t.Errorf("a pod waited for one that a budget guards: %v", got)
	}
}

// A heartbeat that had the node looked at would undo the backoff of what was refused.
func TestANodeIsLookedAtWhenItsDriverBeginsToGo(t *testing.T) {
	tests := []struct {
		name          string
		before, after *corev1.Node
		want          int
	}{
		{"its driver goes from now on", node("n", "cordon-required"), node("n", "drain-required"), 1},
		{"it has no label before", node("n", ""), node("n", "wait-for-jobs-required"), 1},
		{"a heartbeat meanwhile", node("n", "drain-required"), node("n", "drain-required"), 0},
		{"the next state", node("n", "drain-required"), node("n", "pod-restart-required"), 0},
		{"its driver stays", node("n", ""), node("n", "upgrade-required"), 0},
		{"it has its new driver", node("n", "pod-restart-required"), node("n", "validation-required"), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := New(Options{Informers: informers.NewSharedInformerFactory(fake.NewClientset(), 0)})
			if err != nil {
				t.Fatal(err)
			}
			defer e.queue.ShutDown()
			e.nodeSeen(tt.before, tt.after)
			if got := e.queue.Len(); got != tt.want {
				t.Errorf("%d nodes are to be looked at, want %d", got, tt.want)
			}
		})
	}
}

func TestANodeThatIsThroughIsLeftAlone(t *testing.T) {
	w := newWorld(t, map[string]int{"guarded": 1000}, node("n", "drain-required"), pod("guarded", "n"))
	w.run()
	w.wait("a refusal", func() bool { return len(w.tried) > 0 })
	if _, err := w.client.CoreV1().Nodes().Update(t.Context(), node("n", "upgrade-done"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Tries end: none comes within twice the longest backoff.
	var tried int
	var since time.Time
	w.wait("no more tries", func() bool {
		if len(w.tried) != tried || since.IsZero() {
			tried, since = len(w.tried), w.clock.Now()
		}
		return w.clock.Now().Sub(since) > 2*mostBackoff
	})
}
