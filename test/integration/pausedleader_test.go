// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// pausedLeader is a form of TestPausedLeader. All pods are of 45Gi, so that each GPU has room for one.
type pausedLeader struct {
	nodes, pods int
	// stopAt is how many pods are bound when the leader is stopped.
	stopAt int
	// stopped is how long the leader is stopped at least; at least until the other one has filled the GPUs.
	stopped time.Duration
	// deleted is how many bound pods are deleted as it goes on.
	deleted          int
	election, plugin string
	timeout          time.Duration
}

const (
	gpusOfNode = 8
	election   = "{leaderElect: true, resourceNamespace: berth-system, resourceName: berth-scheduler, leaseDuration: %s, renewDeadline: %s, retryPeriod: %s}"
	// shortArgs are plugin arguments that suit shortElection.
	shortArgs = "{staleAfter: 0s, bindTimeout: 1500ms}"
	// envLong asks for the long form: "make paused-leader".
	envLong = "BERTH_PAUSED_LEADER"
)

var shortElection = fmt.Sprintf(election, "6s", "4s", "500ms")

func pausedLeaderForm() pausedLeader {
	if os.Getenv(envLong) == "long" {
		return pausedLeader{
			nodes: 60, pods: 600, stopAt: 150, stopped: 30 * time.Second, deleted: 100, timeout: 5 * time.Minute,
			election: fmt.Sprintf(election, "15s", "10s", "2s"), plugin: "{staleAfter: 0s}",
		}
	}
	return pausedLeader{
		nodes: 24, pods: 250, stopAt: 30, deleted: 24, timeout: 2 * time.Minute,
		election: shortElection, plugin: shortArgs,
	}
}

// TestPausedLeader stops the leader of two schedulers in the middle of a wave of pods, as a frozen VM or a paused cgroup
// would, lets the other one fill all GPUs, and then lets it go on while bound pods are deleted: it would place pods by
// what it knew before. Each GPU has one pod in the end, at no time more, and the old leader ends.
func TestPausedLeader(t *testing.T) {
	form := pausedLeaderForm()
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	for i := range form.nodes {
		name := fmt.Sprintf("n%d", i)
		lab.AddNode(t, berthtesting.MakeNode(name), berthtesting.MakeGPUsOf(name, gpusOfNode, "80Gi").Obj())
	}
	old := runElected(t, lab, "scheduler-old", form.election, form.plugin)
	var first string
	harness.Eventually(t, "the first scheduler leads", func(ctx context.Context) (bool, string) {
		holder, err := leaderOf(ctx, lab)
		first = holder
		return holder != "", fmt.Sprint(err)
	})
	runElected(t, lab, "scheduler-new", form.election, form.plugin)
	site := watchGPUs(t, lab)

	var making sync.WaitGroup
	defer making.Wait()
	making.Go(func() {
		for i := range form.pods {
			if err := lab.TryCreate(t.Context(), berthtesting.MakePod(fmt.Sprintf("p%d", i)).Memory("45Gi").Obj()); err != nil {
				t.Error(err)
			}
		}
	})
	site.wait("the wave is under way", form.timeout, func(bound int) bool { return bound >= form.stopAt })
	if err := old.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	making.Wait()
	full := form.nodes * gpusOfNode
	t.Logf("stopped the leader with %d of %d pods bound", site.bound(), form.pods)
	// If the wave was over already, nothing but the Lease tells that another leads.
	harness.Eventually(t, "the other scheduler leads", func(ctx context.Context) (bool, string) {
		holder, err := leaderOf(ctx, lab)
		return holder != "" && holder != first, fmt.Sprint(err)
	})
	site.wait("the new leader fills the GPUs", form.timeout, func(bound int) bool { return bound == full })
	time.Sleep(form.stopped - time.Since(stopped))

	ended := make(chan struct{})
	go func() { _ = old.cmd.Wait(); close(ended) }()
	if err := old.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, name := range site.some(form.deleted) {
		grace := int64(0)
		if err := lab.Clientset.CoreV1().Pods(berthtesting.Namespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the old leader did not end")
	}
	site.wait("the GPUs are full again", form.timeout, func(bound int) bool { return bound == full })
	checkBooks(t, lab)
	if site.ever() != full+form.deleted {
		t.Errorf("%d pods were bound, want %d", site.ever(), full+form.deleted)
	}
	log, err := os.ReadFile(old.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the old leader refused %d times to bind, the API server %d times", strings.Count(string(log), "not bound, nothing was sent"),
		strings.Count(string(log), "the scheduler process that sent this no longer leads"))
}

// leaderOf returns the identity of the scheduler that holds the Lease; empty if none does.
func leaderOf(ctx context.Context, lab *harness.Lab) (string, error) {
	lease, err := lab.Clientset.CoordinationV1().Leases(berthv1alpha1.Namespace).Get(ctx, "berth-scheduler", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", err
	}
	return *lease.Spec.HolderIdentity, nil
}

// TestLateBinding: a Binding that an older leader sent, and that was on its way until after the new one took over, is
// refused by the API server.
func TestLateBinding(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	lab.AddNode(t, berthtesting.MakeNode("n"), berthtesting.MakeGPUNodeOf("n", gpusOfNode, "80Gi").Obj())
	held := make(chan func() *httptest.ResponseRecorder, 1)
	proxy := newAPIProxy(t, lab, func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/pods/a/binding") {
			forward(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		late := r.Clone(context.WithoutCancel(r.Context()))
		late.Body = io.NopCloser(bytes.NewReader(body))
		held <- func() *httptest.ResponseRecorder {
			answer := httptest.NewRecorder()
			forward(answer, late)
			return answer
		}
		<-r.Context().Done()
	})
	old := runSchedulerOn(t, lab, proxy.cluster(), schedulerOptions{name: "scheduler-old", election: shortElection, args: shortArgs})
	pod := berthtesting.MakePod("a").Memory("45Gi").Obj()
	harness.Create(t, lab, pod)
	deliver := <-held
	old.kill()
	before, err := leaderOf(t.Context(), lab)
	if err != nil || before == "" {
		t.Fatalf("nobody leads: %v", err)
	}
	runElected(t, lab, "scheduler-new", shortElection, shortArgs)
	bound, _ := lab.WaitBound(t, pod)

	answer := deliver()
	if body := answer.Body.String(); answer.Code != http.StatusForbidden || !strings.Contains(body, berthv1alpha1.LeaderTermPolicy) {
		t.Errorf("the late Binding is answered %d %s, want a refusal by the policy", answer.Code, body)
	}
	after, err := leaderOf(t.Context(), lab)
	if by := bound.Annotations[berthv1alpha1.AnnotationBoundBy]; err != nil || by != after || after == before {
		t.Errorf("bound by %q; %q led before, and %q now (%v)", by, before, after, err)
	}
}

// gpuSite follows which pods are on which GPUs, event by event.
type gpuSite struct {
	t  *testing.T
	mu sync.Mutex
	// pods are those that are bound: name → GPUs; on is the reverse.
	pods  map[string]string
	on    map[string]string
	total int
}

// watchGPUs reports each GPU that has two pods at once.
func watchGPUs(t *testing.T, lab *harness.Lab) *gpuSite {
	t.Helper()
	s := &gpuSite{t: t, pods: map[string]string{}, on: map[string]string{}}
	factory := informers.NewSharedInformerFactoryWithOptions(lab.Clientset, 0, informers.WithNamespace(berthtesting.Namespace))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.seen(obj.(*corev1.Pod)) },
		UpdateFunc: func(_, obj any) { s.seen(obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			s.gone(obj.(*corev1.Pod).Name)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	factory.Start(stop)
	t.Cleanup(func() { close(stop); factory.Shutdown() })
	factory.WaitForCacheSync(stop)
	return s
}

func (s *gpuSite) seen(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.pods[pod.Name]; known || pod.Spec.NodeName == "" {
		return
	}
	gpu := pod.Annotations[berthv1alpha1.AnnotationGPUUUIDs]
	if gpu == "" || strings.Contains(gpu, ",") {
		s.t.Errorf("pod %s is bound to GPUs %q, want one", pod.Name, gpu)
	}
	gpu = pod.Spec.NodeName + "/" + gpu
	if other := s.on[gpu]; other != "" {
		s.t.Errorf("GPU %s has %s and %s", gpu, other, pod.Name)
	}
	s.pods[pod.Name], s.on[gpu] = gpu, pod.Name
	s.total++
}

func (s *gpuSite) gone(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gpu, ok := s.pods[name]; ok {
		delete(s.pods, name)
		if s.on[gpu] == name {
			delete(s.on, gpu)
		}
	}
}

// bound is how many pods are bound, and ever how many were.
func (s *gpuSite) bound() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pods)
}

func (s *gpuSite) ever() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// some returns the names of some bound pods.
func (s *gpuSite) some(n int) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.pods {
		if len(names) < n {
			names = append(names, name)
		}
	}
	return names
}

// wait waits for a number of bound pods, closely: the moment matters.
func (s *gpuSite) wait(what string, timeout time.Duration, ok func(bound int) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(timeout); !ok(s.bound()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s did not happen: %d pods are bound", what, s.bound())
		}
	}
}
