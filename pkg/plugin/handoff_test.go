// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/wake"
)

const (
	cdi  = berthv1alpha1.DeviceFormCDI
	bare = berthv1alpha1.DeviceFormUUID
	nri  = berthv1alpha1.DeviceFormNRI
)

// class adds a RuntimeClass to the informer.
func (f *fixture) class(name, handler string) *nodev1.RuntimeClass {
	f.t.Helper()
	c := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: handler}
	if err := f.pl.handle.SharedInformerFactory().Node().V1().RuntimeClasses().Informer().GetIndexer().Add(c); err != nil {
		f.t.Fatal(err)
	}
	return c
}

func withHandlers(n *corev1.Node, names ...string) *corev1.Node {
	n = n.DeepCopy()
	for _, name := range names {
		n.Status.RuntimeHandlers = append(n.Status.RuntimeHandlers, corev1.NodeRuntimeHandler{Name: name})
	}
	return n
}

func withHandOff(n *corev1.Node, form string) *corev1.Node {
	n = n.DeepCopy()
	n.Annotations = map[string]string{berthv1alpha1.AnnotationHandOff: form}
	return n
}

// ofClass is a pod of a RuntimeClass, which asks for 30Gi.
func ofClass(class string) *corev1.Pod {
	pod := bt.MakePod("a").Memory("30Gi").Obj()
	pod.Spec.RuntimeClassName = &class
	return pod
}

// toUUIDs makes the pod refer to bare UUIDs, as by hand or by an older version.
func toUUIDs(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Containers[0].Env[0].ValueFrom.FieldRef.FieldPath = berthv1alpha1.GPUUUIDsFieldPath
	return pod
}

// TestNodesAreToldGPUsInTheirForm: the form depends on the node and on the handler of the pod's class, and a node that
// takes none that the pod can use is out of the question, whoever might be evicted there.
func TestNodesAreToldGPUsInTheirForm(t *testing.T) {
	node := bt.MakeNode("node")
	gpus := func() *bt.GPUNode { return bt.MakeGPUNodeOf("node", 1, "80Gi") }
	for _, tc := range []struct {
		name   string
		pod    *corev1.Pod
		node   *corev1.Node
		report *bt.GPUNode
		want   string // of berth.dev/visible-devices
		nri    string
		reason alloc.Reason
	}{
		{name: "by the class's handler, whose name is not the class's", pod: ofClass("nvidia-legacy"), report: gpus().Runtime("nvidia", cdi).Runtime("legacy", bare), want: "GPU-0"},
		{name: "by another class's", pod: ofClass("nvidia"), report: gpus().Runtime("nvidia", cdi).Runtime("legacy", bare), want: "runtime.nvidia.com/gpu=GPU-0"},
		{name: "by the default runtime", pod: bt.MakePod("a").Memory("30Gi").Obj(), report: gpus().Runtime("nvidia", cdi).Runtime("", bare), want: "GPU-0"},
		{name: "an empty class is the default runtime", pod: ofClass(""), report: gpus().Runtime("nvidia", cdi).Runtime("", bare), want: "GPU-0"},
		{name: "nothing is known", pod: ofClass("nvidia"), report: gpus(), want: "runtime.nvidia.com/gpu=GPU-0"},
		{name: "by NRI", pod: bt.MakePod("a").Memory("30Gi").Obj(), report: gpus().Runtime("", nri), want: "void", nri: "berth.dev/gpu=GPU-0"},
		{name: "a reference to UUIDs, nothing is known", pod: toUUIDs(ofClass("nvidia")), report: gpus(), want: "GPU-0"},
		{name: "a reference to UUIDs, and the node takes them", pod: toUUIDs(ofClass("nvidia")), report: gpus().Runtime("nvidia", cdi, bare), want: "GPU-0"},
		{name: "a reference to UUIDs, and the node does not take them", pod: toUUIDs(ofClass("nvidia")), report: gpus().Runtime("nvidia", cdi), reason: gpustate.ReasonOnlyUUIDs},
		{name: "an admin says how", pod: ofClass("nvidia"), node: withHandOff(node, "UUID"), report: gpus().Runtime("nvidia", cdi), want: "GPU-0"},
		{name: "an admin says nonsense", pod: ofClass("nvidia"), node: withHandOff(node, "yes"), report: gpus(), reason: gpustate.ReasonHandOffOverride},
		{name: "the handler takes nothing", pod: ofClass("nvidia"), report: gpus().Runtime("nvidia").Runtime("", cdi), reason: gpustate.ReasonNoHandOff},
		{name: "the node does not have the handler", pod: ofClass("nvidia"), node: withHandlers(node, "", "runc"), report: gpus(), reason: gpustate.ReasonNoRuntimeHandler},
		{name: "the node has no report, which comes first", pod: ofClass("nvidia"), node: node, reason: gpustate.ReasonNoReport},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.class("nvidia", "nvidia")
			f.class("nvidia-legacy", "legacy")
			if tc.node == nil {
				tc.node = node
			}
			f.node(tc.node, tc.report)
			f.api.add(tc.pod)
			if tc.reason != "" {
				wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(tc.pod), tc.pod, f.nodeInfo("node")), unresolvable, tc.reason)
				wantStatus(t, "Reserve", f.pl.Reserve(f.ctx, f.begin(tc.pod), tc.pod, "node"), fwk.Unschedulable, tc.reason)
				f.wantState("afterwards", tc.pod, 0)
				return
			}
			wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(tc.pod), tc.pod, f.nodeInfo("node")), fwk.Success, "")
			wantStatus(t, "Bind", f.pl.Bind(f.ctx, f.reserve(tc.pod, "node"), tc.pod, "node"), fwk.Success, "")
			got := f.api.bindings[0].Annotations
			if got[berthv1alpha1.AnnotationVisibleDevices] != tc.want || got[berthv1alpha1.AnnotationGPUUUIDs] != "GPU-0" ||
				got[berthv1alpha1.NRIAnnotationPrefix+"server"] != tc.nri {
				t.Errorf("the Binding has %v, want visible devices %q and for NRI %q", got, tc.want, tc.nri)
			}
		})
	}
}

// TestPodsThatAHandOffKeptAwayAreRetried when it changes, and by nothing else.
func TestPodsThatAHandOffKeptAwayAreRetried(t *testing.T) {
	gpus := func() *bt.GPUNode { return bt.MakeGPUNodeOf("node", 1, "80Gi") }
	takesNone := func(t *testing.T) *fixture {
		f := newFixture(t)
		f.class("nvidia", "nvidia")
		f.node(bt.MakeNode("node"), gpus().Runtime("nvidia"))
		f.park(ofClass("nvidia"))
		return f
	}
	t.Run("the agent reports that the runtime takes GPUs", func(t *testing.T) {
		f := takesNone(t)
		f.pl.feed.ReportSeen(gpus().Runtime("nvidia").Message("looked again").Obj(), true)
		f.wantActivated("another note")
		f.pl.feed.ReportSeen(gpus().Runtime("nvidia", cdi).Obj(), true)
		f.wantActivated("it takes them", "a")
	})
	t.Run("a GPU comes free where the runtime takes none", func(t *testing.T) {
		f := newFixture(t)
		f.class("nvidia", "nvidia")
		f.node(bt.MakeNode("node"), gpus().Process("", "70Gi").Runtime("nvidia"))
		f.park(ofClass("nvidia"))
		f.pl.feed.ReportSeen(gpus().Runtime("nvidia").Obj(), true)
		f.wantActivated("it is of no use")
	})
	t.Run("the node gets the handler", func(t *testing.T) {
		f := newFixture(t)
		f.class("nvidia", "nvidia")
		before := withHandlers(bt.MakeNode("node"), "", "runc")
		f.node(before, gpus())
		f.park(ofClass("nvidia"))
		f.pl.wake.NodeSeen(before, before)
		f.wantActivated("the same handlers")
		after := withHandlers(before, "nvidia")
		if err := f.pl.handle.SharedInformerFactory().Core().V1().Nodes().Informer().GetIndexer().Update(after); err != nil {
			t.Fatal(err)
		}
		f.pl.wake.NodeSeen(before, after)
		f.wantActivated("another handler", "a")
		f.clock.Step(2 * wake.CacheDelay)
		f.eventually("the retry when the scheduler's cache has it too", func() bool { return len(f.queue.take()) > 0 })
	})
	t.Run("the RuntimeClass comes back", func(t *testing.T) {
		f := newFixture(t)
		f.node(bt.MakeNode("node"), gpus())
		pod := ofClass("nvidia")
		f.known(pod)
		wantStatus(t, "without the class", second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())), unresolvable, gpustate.ReasonNoRuntimeClass)
		f.pl.wake.ClassSeen(f.class("other", "other"))
		f.wantActivated("another class")
		f.pl.wake.ClassSeen(f.class("nvidia", "nvidia"))
		f.wantActivated("its class", "a")
		wantStatus(t, "with the class", second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())), fwk.Success, "")
	})
	t.Run("an admin says how", func(t *testing.T) {
		f := takesNone(t)
		events, err := f.pl.EventsToRegister(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		node, other := bt.MakeNode("node"), bt.MakeNode("node")
		other.Annotations = map[string]string{"example.test/heartbeat": "1"}
		for _, change := range []struct {
			what  string
			after *corev1.Node
			want  fwk.QueueingHint
		}{{"another annotation", other, fwk.QueueSkip}, {"the annotation", withHandOff(node, "CDI"), fwk.Queue}} {
			hints := 0
			for _, e := range events {
				if e.Event.Resource != fwk.Node || e.Event.ActionType&fwk.UpdateNodeAnnotation == 0 {
					continue
				}
				hints++
				if got, err := e.QueueingHintFn(klog.FromContext(f.ctx), ofClass("nvidia"), node, change.after); got != change.want || err != nil {
					t.Errorf("%s: %v, %v, want %v", change.what, got, err, change.want)
				}
			}
			if hints != 1 {
				t.Errorf("%d hints", hints)
			}
		}
	})
}

// TestClaimIsDroppedWithTheHandOff: a pod does not wait on a node that could no longer tell it its GPUs, and is woken
// to go another way.
func TestClaimIsDroppedWithTheHandOff(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), held("70Gi", "70Gi"))
	f.running(holder("x", "GPU-0"), holder("y", "GPU-1"))
	f.terminating("y")
	pod := bt.MakePod("a").Memory("60Gi").Obj()
	if node, status := f.postFilter(pod); node != "node" {
		t.Fatalf("nominated to %q: %v", node, status)
	}
	f.queue.take()
	note := "set accept-nvidia-visible-devices-envvar-when-unprivileged = true"
	f.pl.feed.ReportSeen(held("70Gi", "70Gi").Runtime("").Message(note).Obj(), true)
	f.wantActivated("the node takes no GPUs any more", "a")
	state, statuses := f.cycleState(pod), framework.NewDefaultNodeToStatus()
	statuses.Set("node", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")))
	result, status := f.pl.PostFilter(f.ctx, state, pod, statuses)
	if status.IsSuccess() || f.pl.tracker.Ledger.ClaimOf(pod.UID) != nil || result == nil || result.NominatedNodeName != "" {
		t.Errorf("PostFilter: %v, %v, want no nomination", result, status)
	}
	if !strings.Contains(status.Message(), "on node node: "+note) {
		t.Errorf("the pod is told %q", status.Message())
	}
}
