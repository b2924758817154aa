// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	schedulercache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultbinder"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodename"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeunschedulable"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/queuesort"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/tainttoleration"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	schedulermetrics "k8s.io/kubernetes/pkg/scheduler/metrics"
	tf "k8s.io/kubernetes/pkg/scheduler/testing/framework"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

var epoch = bt.Epoch

// fixture is the plugin in a framework of its own, without informers: tests tell it what its handlers would.
type fixture struct {
	t       testing.TB
	ctx     context.Context
	pl      *Plugin
	clock   fakeClock
	api     *fakeAPI
	queue   *fakeQueue
	events  *events.FakeRecorder
	limiter *switchedLimiter
	nodes   []*corev1.Node
	pods    []*corev1.Pod // of the scheduler's snapshot
	lister  *snapshotLister
	// framework has the plugin, and those for CPU and memory, ports, taints and cordons, in PreFilter and Filter. The plugin
	// alone scores.
	framework framework.Framework
}

// newFixture makes a plugin that has recovered, with no headroom, so that figures in tests are round.
func newFixture(t testing.TB, edits ...func(*config.Args)) *fixture {
	t.Helper()
	f := &fixture{
		t: t, ctx: t.Context(), clock: fakeClock{testclock.NewFakeClock(epoch)}, api: newFakeAPI(t), queue: &fakeQueue{}, limiter: &switchedLimiter{flowcontrol.NewFakeAlwaysRateLimiter()},
		events: events.NewFakeRecorder(1000), lister: &snapshotLister{},
	}
	f.snapshot()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: f.api.URL, RateLimiter: f.limiter})
	if err != nil {
		t.Fatal(err)
	}
	schedulermetrics.Register()
	args := &config.Args{}
	args.SetDefaults()
	args.Headroom.Set(0)
	for _, edit := range edits {
		edit(args)
	}
	plugin := func(ctx context.Context, _ runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		f.pl, err = newPlugin(ctx, args, handle, f.clock, alone())
		return f.pl, err
	}
	fit := func(ctx context.Context, obj runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		args := obj.DeepCopyObject().(*schedulerconfig.NodeResourcesFitArgs)
		args.IgnoredResourceGroups = []string{berthv1alpha1.GroupName} // as in the shipped profile
		return noderesources.NewFit(ctx, args, handle, feature.Features{})
	}
	f.framework, err = tf.NewFramework(f.ctx, []tf.RegisterPluginFunc{
		tf.RegisterQueueSortPlugin(queuesort.Name, queuesort.New), tf.RegisterBindPlugin(defaultbinder.Name, defaultbinder.New),
		tf.RegisterPluginAsExtensions(noderesources.Name, fit, "PreFilter", "Filter"),
		tf.RegisterPluginAsExtensions(nodeunschedulable.Name, frameworkruntime.FactoryAdapter(feature.Features{}, nodeunschedulable.New), "Filter"),
		tf.RegisterPluginAsExtensions(tainttoleration.Name, frameworkruntime.FactoryAdapter(feature.Features{}, tainttoleration.New), "Filter"),
		tf.RegisterPluginAsExtensions(nodeports.Name, frameworkruntime.FactoryAdapter(feature.Features{}, nodeports.New), "PreFilter", "Filter"),
		tf.RegisterPluginAsExtensions(nodename.Name, frameworkruntime.FactoryAdapter(feature.Features{}, nodename.New), "Filter"),
		tf.RegisterPluginAsExtensions(Name, plugin, "PreFilter", "Filter", "PreScore", "Score"),
	}, berthv1alpha1.SchedulerName,
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(informers.NewSharedInformerFactory(client, 0)),
		frameworkruntime.WithSnapshotSharedLister(f.lister),
		frameworkruntime.WithMutableSnapshotLister(f.lister),
		frameworkruntime.WithPodNominator(f.queue),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()),
		frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
		frameworkruntime.WithPodActivator(f.queue),
		frameworkruntime.WithEventRecorder(f.events),
		frameworkruntime.WithParallelism(2),
	)
	if err != nil {
		t.Fatal(err)
	}
	f.pl.recovery.SetDone(true)
	return f
}

// alone returns the leader of a process without leader election.
func alone() *leader.Leader {
	lead := leader.New()
	lead.Alone()
	return lead
}

// follows gives the process another leader.
func (f *fixture) follows(l *leader.Leader) {
	f.pl.leader, f.pl.faults.Leader, f.pl.recovery.Leader = l, l, l
}

// switchedLimiter is the client's limiter of requests, which a test can replace.
type switchedLimiter struct{ flowcontrol.RateLimiter }

func (f *fixture) limit(l flowcontrol.RateLimiter) { f.limiter.RateLimiter = l }

// node adds a node with a report to the snapshot, the informer and the tracker.
func (f *fixture) node(node *corev1.Node, report *bt.GPUNode) {
	f.t.Helper()
	f.nodes = append(f.nodes, node)
	f.snapshot()
	if err := f.pl.handle.SharedInformerFactory().Core().V1().Nodes().Informer().GetIndexer().Add(node); err != nil {
		f.t.Fatal(err)
	}
	if report != nil {
		f.pl.feed.ReportSeen(report.Obj(), true)
		if f.pl.tracker.Store.HasRivals(node.Name) {
			f.t.Fatalf("node %s has a GPU of another node, so it gets no pods: name its GPUs by bt.GPUOf", node.Name)
		}
	}
}

// running adds bound pods to the snapshot, and tells the tracker of them.
func (f *fixture) running(pods ...*bt.Pod) {
	for _, p := range pods {
		f.pods = append(f.pods, p.Obj())
		f.known(p.Obj())
		f.pl.feed.PodSeen(p.Obj())
	}
	f.snapshot()
}

// snapshot makes the scheduler's snapshot anew.
func (f *fixture) snapshot() { f.lister.Snapshot = schedulercache.NewSnapshot(f.pods, f.nodes) }

func (f *fixture) nodeInfos() []fwk.NodeInfo {
	f.t.Helper()
	infos, err := f.lister.NodeInfos().List()
	if err != nil {
		f.t.Fatal(err)
	}
	slices.SortFunc(infos, func(a, b fwk.NodeInfo) int { return strings.Compare(a.Node().Name, b.Node().Name) })
	return infos
}

func (f *fixture) nodeInfo(name string) fwk.NodeInfo {
	f.t.Helper()
	ni, err := f.lister.NodeInfos().Get(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return ni
}

// begin runs PreFilter, which must succeed, and returns the state of the cycle.
func (f *fixture) begin(pod *corev1.Pod) fwk.CycleState {
	f.t.Helper()
	f.known(pod)
	state := framework.NewCycleState()
	if _, status := f.pl.PreFilter(f.ctx, state, pod, f.nodeInfos()); !status.IsSuccess() {
		f.t.Fatalf("PreFilter of %s: %v", pod.Name, status)
	}
	return state
}

// reserve runs a cycle up to Reserve.
func (f *fixture) reserve(pod *corev1.Pod, node string) fwk.CycleState {
	f.t.Helper()
	state := f.begin(pod)
	if status := f.pl.Reserve(f.ctx, state, pod, node); !status.IsSuccess() {
		f.t.Fatalf("Reserve of %s on %s: %v", pod.Name, node, status)
	}
	return state
}

// park runs a cycle that finds no place for the pod.
func (f *fixture) park(pod *corev1.Pod) {
	f.t.Helper()
	state := f.begin(pod)
	for _, ni := range f.nodeInfos() {
		if f.pl.Filter(f.ctx, state, pod, ni).IsSuccess() {
			f.t.Fatalf("%s fits on %s", pod.Name, ni.Node().Name)
		}
	}
	f.queue.take()
}

// free returns what is free on each device of a node, in GiB, as everyone sees it now.
func (f *fixture) free(node string) []uint64 {
	ni := f.nodeInfo(node)
	v := f.pl.tracker.Viewer().View(ni.Node(), cycle.PodsOf(ni), &gpustate.Query{})
	var out []uint64
	for i := range v.Devices {
		out = append(out, v.Devices[i].Free().Uint64()>>30)
	}
	return out
}

func (f *fixture) wantFree(what, node string, want ...uint64) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.free(node)); diff != "" {
		f.t.Errorf("%s: free GiB on %s (-want +got):\n%s", what, node, diff)
	}
}

func (f *fixture) wantState(what string, pod *corev1.Pod, want gpustate.State) {
	f.t.Helper()
	if got := f.state(pod); got != want {
		f.t.Errorf("%s: pod %s is in state %d, want %d", what, pod.Name, got, want)
	}
}

func (f *fixture) state(pod *corev1.Pod) gpustate.State {
	if e := f.pl.tracker.Ledger.Get(pod.UID); e != nil {
		return e.State
	}
	return 0
}

// wantActivated checks which pods were put back into the queue since the last look.
func (f *fixture) wantActivated(what string, want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.queue.take()); diff != "" {
		f.t.Errorf("%s: activated (-want +got):\n%s", what, diff)
	}
}

// eventually waits for what another goroutine does.
func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	bt.Eventually(f.t, what, ok)
}

func newState() fwk.CycleState { return framework.NewCycleState() }

// wantStatus checks a status: its code, and its only reason where one is given.
func wantStatus(t testing.TB, what string, got *fwk.Status, code fwk.Code, reason alloc.Reason) {
	t.Helper()
	if got.Code() != code || reason != "" && got.Message() != string(reason) {
		t.Errorf("%s: got %v %q, want %v %q", what, got.Code(), got.Message(), code, reason)
	}
}

// fakeClock runs the functions of timers in goroutines of their own, as real clocks do.
type fakeClock struct{ *testclock.FakeClock }

func (c fakeClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return c.FakeClock.AfterFunc(d, func() { go f() })
}

// snapshotLister lets a test replace the snapshot, as each cycle does.
type snapshotLister struct{ *schedulercache.Snapshot }

// fakeQueue notes which pods are activated, and knows who is nominated where.
type fakeQueue struct {
	fwk.PodNominator
	mu        sync.Mutex
	activated []string
	nominated map[string][]fwk.PodInfo
}

func (q *fakeQueue) Activate(_ klog.Logger, pods map[string]*corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range pods {
		q.activated = append(q.activated, p.Name)
	}
}

// take returns the names of the pods that were activated since it was last called, sorted.
func (q *fakeQueue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.activated
	q.activated = nil
	slices.Sort(out)
	return out
}

func (q *fakeQueue) NominatedPodsForNode(node string) []fwk.PodInfo { return q.nominated[node] }

func (q *fakeQueue) nominate(t testing.TB, pod *corev1.Pod, node string) {
	t.Helper()
	pi, err := framework.NewPodInfo(pod)
	if err != nil {
		t.Fatal(err)
	}
	if q.nominated == nil {
		q.nominated = map[string][]fwk.PodInfo{}
	}
	q.nominated[node] = append(q.nominated[node], pi)
}

// nominated tells of a pod that is nominated to a node.
func (f *fixture) nominated(pod *corev1.Pod, node string) *corev1.Pod {
	f.t.Helper()
	pod = pod.DeepCopy()
	pod.Status.NominatedNodeName = node
	f.known(pod)
	f.pl.feed.PodSeen(pod)
	f.pl.follow.NominationSeen(nil, pod)
	f.queue.nominate(f.t, pod, node)
	return pod
}

// known puts pods into the informer, as those that are or were in the API.
func (f *fixture) known(pods ...*corev1.Pod) {
	f.t.Helper()
	for _, p := range pods {
		if err := f.pl.handle.SharedInformerFactory().Core().V1().Pods().Informer().GetIndexer().Add(p); err != nil {
			f.t.Fatal(err)
		}
	}
}
