// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/plugin/config"
)

const warmModel = "hf://org/repo"

func weighing(weight int32) func(*config.Args) {
	return func(a *config.Args) { a.WarmWeight = ptr.To(weight) }
}

// loading is a pod of the model that books so much.
func loading(name, memory string) *bt.Pod { return bt.MakePod(name).Model(warmModel).Memory(memory) }

// ran tells of a pod that was Ready on a node, and is gone.
func (f *fixture) ran(p *bt.Pod, node string, gpus ...int) {
	f.t.Helper()
	f.left(f.ready(p, node, gpus...))
}

// ready tells of a pod that is Ready on a node, since long unless it says when it started.
func (f *fixture) ready(p *bt.Pod, node string, gpus ...int) *bt.Pod {
	f.t.Helper()
	var shares []string
	for _, g := range gpus {
		shares = append(shares, bt.GPUOf(node, g)+"="+p.Annotations["berth.dev/gpu-memory"])
	}
	if p.Status.StartTime == nil {
		p.Started(epoch.Add(-time.Hour))
	}
	p.Bound(node, epoch, shares...).Ready(epoch)
	f.running(p)
	return p
}

func (f *fixture) left(p *bt.Pod) {
	f.t.Helper()
	f.pods = slices.DeleteFunc(f.pods, func(o *corev1.Pod) bool { return o.UID == p.Pod.UID })
	f.snapshot()
	f.pl.feed.PodGone(p.Obj())
}

// scores returns what Score says of each node on which the pod fits.
func (f *fixture) scores(pod *corev1.Pod) map[string]int64 {
	f.t.Helper()
	state, scores := f.begin(pod), map[string]int64{}
	for _, ni := range f.nodeInfos() {
		if !f.pl.Filter(f.ctx, state, pod, ni).IsSuccess() {
			continue
		}
		score, status := f.pl.Score(f.ctx, state, pod, ni)
		if !status.IsSuccess() {
			f.t.Fatal(status)
		}
		scores[ni.Node().Name] = score
	}
	return scores
}

// booked reserves a place for a pod, and returns its GPUs and what its owner will be told.
func (f *fixture) booked(pod *corev1.Pod, node string) (gpus []string, note string) {
	f.t.Helper()
	data, err := f.reserve(pod, node).Read(reservedKey)
	if err != nil {
		f.t.Fatal(err)
	}
	r := data.(*reserved)
	for _, d := range r.allocation.Devices {
		gpus = append(gpus, d.UUID)
	}
	_, note, _ = strings.Cut(r.message, "; warm: ")
	return gpus, note
}

// wantBooked checks where on a node a pod is booked, and what is said of it.
func (f *fixture) wantBooked(what string, pod *bt.Pod, node, note string, gpus ...int) {
	f.t.Helper()
	var want []string
	for _, g := range gpus {
		want = append(want, bt.GPUOf(node, g))
	}
	got, told := f.booked(pod.Obj(), node)
	if diff := cmp.Diff(want, got); diff != "" || told != note {
		f.t.Errorf("%s: told %q, want %q (-want +got)\n%s", what, told, note, diff)
	}
}

func (f *fixture) wantScores(what string, pod *bt.Pod, want map[string]int64) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.scores(pod.Obj())); diff != "" {
		f.t.Errorf("%s: scores (-want +got)\n%s", what, diff)
	}
}

// twins returns a fixture with nodes a and b of two GPUs each.
func twins(t testing.TB, edits ...func(*config.Args)) *fixture {
	f := newFixture(t, edits...)
	for _, name := range []string{"a", "b"} {
		n := bt.MakeNode(name)
		n.UID = "1"
		f.node(n, bt.MakeGPUsOf(name, 2, "80Gi"))
	}
	return f
}

// aloneOn80 is the score of a pod of 30Gi that has a GPU of 80Gi to itself.
const aloneOn80 = 67

func TestAModelGoesBackToItsGPU(t *testing.T) {
	f := twins(t)
	f.wantScores("before it ran", loading("p", "30Gi"), map[string]int64{"a": aloneOn80, "b": aloneOn80})
	f.ran(loading("p", "30Gi"), "b", 1)
	f.clock.Step(12 * time.Minute)
	for _, node := range []string{"a", "b"} {
		f.pl.feed.ReportSeen(bt.MakeGPUsOf(node, 2, "80Gi").Obj(), true)
	}
	f.wantScores("after", loading("q", "30Gi"), map[string]int64{"a": aloneOn80, "b": aloneOn80 + (100-aloneOn80)/2})
	f.wantScores("another model", loading("r", "30Gi").Model("hf://org/other"), map[string]int64{"a": aloneOn80, "b": aloneOn80})
	f.wantBooked("it", loading("q", "30Gi"), "b", "its model ran on this GPU until 12m ago, its files may be cached", 1)
	f.wantBooked("another model", loading("r", "30Gi").Model("hf://org/other"), "a", "", 0)
}

// TestAnotherGPUOfItsNodeIsWarmToo, but less: the files may be there.
func TestAnotherGPUOfItsNodeIsWarmToo(t *testing.T) {
	f := twins(t)
	f.ran(loading("p", "30Gi"), "b", 1)
	f.running(bt.MakePod("x").Memory("60Gi").Bound("b", epoch, bt.GPUOf("b", 1)+"=60Gi").Ready(epoch))
	f.wantScores("its GPU is full", loading("q", "30Gi"), map[string]int64{"a": aloneOn80, "b": aloneOn80 + (100-aloneOn80)/3})
	f.wantBooked("it", loading("q", "30Gi"), "b", "its model ran on the node until 0s ago, its files may be cached", 0)
}

// TestATightFitWinsOverAWarmOne where it is much tighter: warmth is half of the way to the best score, no more.
func TestATightFitWinsOverAWarmOne(t *testing.T) {
	for _, tc := range []struct {
		weight int32
		want   map[string]int64
	}{{1, map[string]int64{"a": aloneOn80 + (100-aloneOn80)/2, "b": 86}}, {10, map[string]int64{"a": aloneOn80 + (100-aloneOn80)*10/11, "b": 86}}} {
		f := twins(t, weighing(tc.weight))
		f.ran(loading("p", "30Gi"), "a", 0)
		f.running(bt.MakePod("x").Memory("49Gi").Bound("b", epoch, bt.GPUOf("b", 0)+"=49Gi").Ready(epoch))
		f.wantScores(fmt.Sprintf("by weight %d", tc.weight), loading("q", "30Gi"), tc.want)
	}
}

// TestATightGPUWinsOverAWarmOne on one node, in the same way.
func TestATightGPUWinsOverAWarmOne(t *testing.T) {
	f := twins(t)
	f.ran(loading("p", "30Gi"), "a", 0)
	f.running(bt.MakePod("x").Memory("49Gi").Bound("a", epoch, bt.GPUOf("a", 1)+"=49Gi").Ready(epoch))
	f.wantBooked("it", loading("q", "30Gi"), "a", "its model ran on the node until 0s ago, its files may be cached", 1)
}

// TestFewerGPUsWinOverWarmOnes: the order of options is above all.
func TestFewerGPUsWinOverWarmOnes(t *testing.T) {
	f := twins(t, weighing(100))
	f.ran(loading("p", "30Gi").GPUCount("2"), "a", 0, 1)
	f.running(
		bt.MakePod("x").Memory("30Gi").Bound("a", epoch, bt.GPUOf("a", 0)+"=30Gi").Ready(epoch),
		bt.MakePod("y").Memory("30Gi").Bound("a", epoch, bt.GPUOf("a", 1)+"=30Gi").Ready(epoch),
	)
	q := loading("q", "60Gi").GPUCount("1,2")
	if scores := f.scores(q.Obj()); scores["a"] >= scores["b"] || scores["a"] > 50 {
		t.Errorf("two warm GPUs on a, one cold on b: %v", scores)
	}
}

// TestModelsThatFillGPUsGoBackToo: they fit as well anywhere, so that all places have the best score but for warmth.
func TestModelsThatFillGPUsGoBackToo(t *testing.T) {
	f := twins(t)
	f.wantScores("before", loading("p", "80Gi"), map[string]int64{"a": 100, "b": 100})
	f.ran(loading("p", "80Gi"), "b", 1)
	f.wantScores("after", loading("q", "80Gi"), map[string]int64{"a": 99, "b": 100})
	f.wantBooked("it", loading("q", "80Gi"), "b", "its model ran on this GPU until 0s ago, its files may be cached", 1)
}

func TestWeight0(t *testing.T) {
	f := twins(t, weighing(0))
	f.ran(loading("p", "30Gi"), "b", 1)
	f.wantScores("it", loading("q", "30Gi"), map[string]int64{"a": aloneOn80, "b": aloneOn80})
	f.wantBooked("it", loading("q", "30Gi"), "b", "", 0)
	if f.pl.warm != nil {
		t.Error("there is a book")
	}
}

// TestReplicasAreNotDrawnTogether: a node with a replica that serves is cold for the others, whatever is cached there.
func TestReplicasAreNotDrawnTogether(t *testing.T) {
	chat := func(name string) *bt.Pod { return replica(name, "chat", "30Gi", "").Model(warmModel) }
	in := func(namespace string, p *bt.Pod) *bt.Pod {
		p.Namespace = namespace
		return p
	}
	for _, tc := range []struct {
		name string
		// there is on node b.
		there   func(f *fixture)
		pod     *bt.Pod
		want    int64 // of b
		because string
	}{
		{"beside a replica", func(f *fixture) { f.ready(chat("r"), "b", 0) }, chat("q"), aloneOn80, ""},
		{"beside one, where another one ran", func(f *fixture) { f.ran(chat("p"), "b", 1); f.ready(chat("r"), "b", 0) }, chat("q"), aloneOn80, ""},
		{"beside one that is about to be bound", func(f *fixture) { f.ran(chat("p"), "b", 1); f.reserve(chat("r").Obj(), "b") }, chat("q"), 71, ""}, // on one GPU, which is tight
		{
			"beside one that goes, as in a roll-out", func(f *fixture) { f.ready(chat("r").Terminating(epoch), "b", 0) }, chat("q"), aloneOn80, "",
		},
		{
			"where one ran, beside one that goes", func(f *fixture) { f.ran(chat("p"), "b", 1); f.ready(chat("r").Terminating(epoch), "b", 0) }, chat("q"), aloneOn80 + (100-aloneOn80)/2,
			"its model ran on this GPU until 0s ago, its files may be cached",
		},
		{
			"a pod of another workload with the same model", func(f *fixture) { f.ready(chat("r"), "b", 0) }, replica("q", "batch", "30Gi", "").Model(warmModel), aloneOn80 + (100-aloneOn80)/3,
			"pod default/r with the same model runs on the node, its files may be cached",
		},
		{
			"a pod that is nobody's replica", func(f *fixture) { f.ready(chat("r"), "b", 0) }, loading("q", "30Gi"), aloneOn80 + (100-aloneOn80)/3,
			"pod default/r with the same model runs on the node, its files may be cached",
		},
		{
			"a pod of another namespace, which learns no name", func(f *fixture) { f.ready(chat("r"), "b", 0) }, in("other", loading("q", "30Gi")), aloneOn80 + (100-aloneOn80)/3,
			"a pod of another namespace with the same model runs on the node, its files may be cached",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := twins(t)
			tc.there(f)
			f.running(bt.MakePod("x").Memory("51Gi").Bound("b", epoch, bt.GPUOf("b", 0)+"=51Gi").Ready(epoch)) // so that GPU 1 is the only one
			f.wantScores("it", tc.pod, map[string]int64{"a": aloneOn80, "b": tc.want})
			f.wantBooked("it", tc.pod, "b", tc.because, 1)
		})
	}
}

// TestAWorkloadGoesBack though nobody says what it loads, as long as it is told the same.
func TestAWorkloadGoesBack(t *testing.T) {
	f := twins(t)
	f.ran(replica("p", "chat", "30Gi", "").Args("--model=x"), "b", 1)
	f.wantBooked("it", replica("q", "chat", "30Gi", "").Args("--model=x"), "b", "its workload ran on this GPU until 0s ago, its files may be cached", 1)
	f.wantBooked("with another argument", replica("r", "chat", "30Gi", "").Args("--model=y"), "a", "", 0)
	f.wantBooked("a pod of nobody", bt.MakePod("s").Memory("30Gi").Args("--model=x"), "a", "", 0)
}

// TestWhereAModelSleeps: the GPU of a Ready pod that holds little of what it booked is warm, its replicas' too.
func TestWhereAModelSleeps(t *testing.T) {
	const ratio = "--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)"
	vllmPod := func(name string) *bt.Pod {
		return replica(name, "chat", "30Gi", "").Model(warmModel).Runtime(vllm).Args(ratio)
	}
	for _, tc := range []struct {
		name, holds, note string
		// started is how long before now its container did, for the last time.
		started  time.Duration
		restarts int32
	}{
		{"it sleeps", "2Gi", "pod default/p with the same model sleeps on GPU 1, where it holds 2Gi of 30Gi", time.Hour, 0},
		{"it is awake", "29Gi", "", time.Hour, 0},
		{"nobody measured it", "", "", time.Hour, 0},
		{"it may still load: without a probe it is Ready at once", "2Gi", "", time.Minute, 0},
		{"it loads again, after a restart", "2Gi", "", time.Minute, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := twins(t)
			f.ready(vllmPod("p").Started(epoch.Add(-time.Hour)).Restarted(epoch.Add(-tc.started), tc.restarts), "b", 1)
			if tc.holds != "" {
				f.pl.feed.ReportSeen(bt.MakeGPUsOf("b", 2, "80Gi").At(bt.GPUOf("b", 1)).Active("p", tc.holds).Obj(), true)
			}
			cold, on := int64(aloneOn80), []int{1} // the tighter one in any case
			if scores := f.scores(vllmPod("q").Obj()); (scores["b"] > 80) != (tc.note != "") || scores["a"] != cold {
				t.Errorf("scores %v", scores)
			}
			f.wantBooked("it", vllmPod("q"), "b", tc.note, on...)
		})
	}
}

// TestImageVolumesThatAreOnTheNode: all of the pod's. Images of containers are left to ImageLocality.
func TestImageVolumesThatAreOnTheNode(t *testing.T) {
	with := func(p *bt.Pod, references ...string) *bt.Pod {
		for i, r := range references {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i), VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: r}}})
		}
		return p
	}
	pod := func(references ...string) *bt.Pod { return with(bt.MakePod("q").Memory("30Gi"), references...) }
	f := twins(t)
	f.changeNode("b", func(n *corev1.Node) {
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"r/m:latest"}, SizeBytes: 14 << 30}, {Names: []string{"r/l:1"}, SizeBytes: 1 << 30}}
	})
	warm := map[string]int64{"a": aloneOn80, "b": aloneOn80 + (100-aloneOn80)/3}
	f.wantScores("all of them", pod("r/m", "r/l:1"), warm)
	f.wantScores("one is missing", pod("r/m", "r/other:1"), map[string]int64{"a": aloneOn80, "b": aloneOn80})
	f.wantScores("the container's", bt.MakePod("q").Memory("30Gi").Image("r/m:latest"), map[string]int64{"a": aloneOn80, "b": aloneOn80})
	f.wantBooked("it", pod("r/m"), "b", "its image volumes (14Gi) are on the node", 0)
	f.ran(with(bt.MakePod("p").Memory("30Gi"), "r/m"), "a", 1)
	f.wantBooked("where it ran", with(bt.MakePod("s").Memory("30Gi"), "r/m:latest"), "a", "its set of image volumes ran on this GPU until 0s ago, its files may be cached", 1)
}

// TestAWarmGPUThatIsClaimedStaysTheClaims: warmth makes nothing fit.
func TestAWarmGPUThatIsClaimedStaysTheClaims(t *testing.T) {
	f := twins(t)
	f.ran(loading("p", "30Gi"), "b", 0)
	f.nominated(bt.MakePod("claimer").Memory("60Gi").Obj(), "b")
	f.wantBooked("it", loading("q", "30Gi"), "b", "its model ran on the node until 0s ago, its files may be cached", 1)
}

func TestANodeThatWasReplacedIsCold(t *testing.T) {
	f := twins(t)
	f.ran(loading("p", "30Gi"), "b", 1)
	f.changeNode("b", func(n *corev1.Node) { n.UID = "2" })
	f.wantScores("it", loading("q", "30Gi"), map[string]int64{"a": aloneOn80, "b": aloneOn80})
}

// TestARestartForgetsWhatRan, and knows what runs.
func TestARestartForgetsWhatRan(t *testing.T) {
	f := twins(t)
	f.ran(loading("p", "30Gi"), "b", 1)
	there := f.ready(loading("r", "30Gi"), "a", 0)
	f.left(there)
	f = twins(t)
	f.running(there)
	f.left(bt.MakePod("p").Model(warmModel).Node("b")) // as a late event of a pod that was never seen
	f.wantScores("it", loading("q", "30Gi"), map[string]int64{"a": 80, "b": aloneOn80})
}
