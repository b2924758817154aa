// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// replica is a pod of a Deployment.
func replica(name, of, memory, sharing string) *bt.Pod {
	p := bt.MakePod(name).Memory(memory)
	p.Labels = map[string]string{"pod-template-hash": "7d9f"}
	controller := true
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: of + "-7d9f", Controller: &controller}}
	if sharing != "" {
		p.Annotation("gpu-sharing", sharing)
	}
	return p
}

func TestWhoMayShareAGPU(t *testing.T) {
	one, two := bt.MakeGPUNodeOf("a", 1, "80Gi"), bt.MakeGPUNodeOf("a", 2, "80Gi")
	on := func(p *bt.Pod, share string) *bt.Pod { return p.Bound("a", epoch, share).Started(epoch).Ready(epoch) }
	tests := []struct {
		name   string
		report *bt.GPUNode
		there  []*bt.Pod
		pod    *bt.Pod
		want   string // the GPU
		code   fwk.Code
		reason alloc.Reason
	}{
		{name: "anybody, by default", report: one, there: []*bt.Pod{on(replica("a", "chat", "30Gi", ""), "GPU-0=30Gi")}, pod: replica("b", "chat", "30Gi", ""), want: "GPU-0"},
		{
			name: "not the own workload", report: one, there: []*bt.Pod{on(replica("a", "chat", "30Gi", "other-workloads"), "GPU-0=30Gi")},
			pod: replica("b", "chat", "30Gi", "other-workloads"), code: fwk.Unschedulable, reason: gpustate.ReasonSameWorkload,
		},
		{
			name: "but on another GPU", report: two, there: []*bt.Pod{on(replica("a", "chat", "30Gi", "other-workloads"), "GPU-0=30Gi")},
			pod: replica("b", "chat", "30Gi", "other-workloads"), want: "GPU-1",
		},
		{
			name: "it holds for those that did not mind and were there before", report: one, there: []*bt.Pod{on(replica("a", "chat", "30Gi", ""), "GPU-0=30Gi")},
			pod: replica("b", "chat", "30Gi", "other-workloads"), code: fwk.Unschedulable, reason: gpustate.ReasonSameWorkload,
		},
		{
			name: "and for those that do not mind and come later", report: one, there: []*bt.Pod{on(replica("a", "chat", "30Gi", "other-workloads"), "GPU-0=30Gi")},
			pod: replica("b", "chat", "30Gi", "any"), code: fwk.Unschedulable, reason: gpustate.ReasonSameWorkload,
		},
		{
			name: "another workload is welcome", report: one, there: []*bt.Pod{on(replica("a", "chat", "30Gi", "other-workloads"), "GPU-0=30Gi")},
			pod: replica("b", "embed", "30Gi", "other-workloads"), want: "GPU-0",
		},
		{
			name: "a pod that is nobody's replica is, too", report: one, there: []*bt.Pod{on(bt.MakePod("a").Memory("30Gi").Annotation("gpu-sharing", "other-workloads"), "GPU-0=30Gi")},
			pod: bt.MakePod("b").Memory("30Gi").Annotation("gpu-sharing", "other-workloads"), want: "GPU-0",
		},
		{
			name: "too little memory is that", report: one, there: []*bt.Pod{on(replica("a", "chat", "60Gi", "other-workloads"), "GPU-0=60Gi")},
			pod: replica("b", "chat", "30Gi", "other-workloads"), code: fwk.Unschedulable, reason: gpustate.ReasonInsufficientMemory,
		},
		{
			name: "a GPU for itself", report: two, there: []*bt.Pod{on(bt.MakePod("a").Memory("1Gi"), "GPU-0=1Gi")},
			pod: bt.MakePod("b").Memory("30Gi").Annotation("gpu-sharing", "none"), want: "GPU-1",
		},
		{
			name: "none that another pod is on", report: one, there: []*bt.Pod{on(bt.MakePod("a").Memory("1Gi"), "GPU-0=1Gi")},
			pod: bt.MakePod("b").Memory("30Gi").Annotation("gpu-sharing", "none"), code: fwk.Unschedulable, reason: gpustate.ReasonNotAlone,
		},
		{
			name: "memory of no pod is no company", report: bt.MakeGPUNodeOf("a", 1, "80Gi").At("GPU-0").Process("", "300Mi").Used("300Mi"),
			pod: bt.MakePod("b").Memory("30Gi").Annotation("gpu-sharing", "none"), want: "GPU-0",
		},
		{
			name: "a pod that holds memory without a booking is", report: bt.MakeGPUNodeOf("a", 1, "80Gi").At("GPU-0").Active("a", "300Mi"),
			there: []*bt.Pod{bt.MakePod("a").Scheduler("default-scheduler").Node("a")},
			pod:   bt.MakePod("b").Memory("30Gi").Annotation("gpu-sharing", "none"), code: fwk.Unschedulable, reason: gpustate.ReasonNotAlone,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.node(bt.MakeNode("a"), tt.report)
			f.running(tt.there...)
			pod := tt.pod.Obj()
			state := f.begin(pod)
			// Twice: the second time from what is remembered.
			for range 2 {
				wantStatus(t, "Filter", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("a")), tt.code, tt.reason)
			}
			// A pod of no workload that asks for the same fits by its memory alone.
			if tt.reason == gpustate.ReasonSameWorkload {
				other := bt.MakePod("other").Memory("30Gi").Obj()
				wantStatus(t, "another's Filter", f.pl.Filter(f.ctx, f.begin(other), other, f.nodeInfo("a")), fwk.Success, "")
			}
			if tt.want == "" {
				return
			}
			if status := f.pl.Reserve(f.ctx, state, pod, "a"); !status.IsSuccess() {
				t.Fatal(status)
			}
			if got := f.pl.tracker.Ledger.Get(pod.UID).Allocation.Devices[0].UUID; got != tt.want {
				t.Errorf("on %s, want %s", got, tt.want)
			}
		})
	}
}

// TestAPodAloneBooksTheGPUWhole, so that schedulers that know nothing of it keep away; its engine is told what it asked for.
func TestAPodAloneBooksTheGPUWhole(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	pod := bt.MakePod("p").Memory("40Gi").Runtime("vllm").Annotation("gpu-sharing", "none").
		Args("--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)").Obj()
	state := f.reserve(pod, "a")
	f.wantFree("beside it", "a", 0)
	f.api.add(pod)
	if status := f.pl.Bind(f.ctx, state, pod, "a"); !status.IsSuccess() {
		t.Fatal(status)
	}
	annotations := f.api.bindings[0].Annotations
	booked, err := gpustate.DecodeAllocation(annotations[berthv1alpha1.AnnotationAllocation])
	if err != nil || booked.Devices[0].Memory != alloc.GiB(80) {
		t.Errorf("booked %v, %v", booked, err)
	}
	// 40 of 80 GiB, less what vLLM takes outside its fraction.
	if got := annotations[berthv1alpha1.AnnotationGPUMemoryUtilization]; got < "0.4" || got >= "0.5" {
		t.Errorf("told %s", got)
	}
}

// TestAPodAloneMakesRoom by evicting all that are on a GPU, be there ever so much free.
func TestAPodAloneMakesRoom(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	for name, share := range map[string]string{"x": "GPU-0=1Gi", "y": "GPU-0=2Gi", "z": "GPU-1=70Gi"} {
		f.resident(name, "a", nil, share)
	}
	pod := bt.MakePod("preemptor").Memory("30Gi").Priority(100).Annotation("gpu-sharing", "none").Obj()
	f.wantPostFilter("the cheapest is one large pod", pod, "a", "z")
}

// TestReplicasThatKeepApartWait for one that goes, and are told so.
func TestReplicasThatKeepApartWait(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	f.running(replica("old", "chat", "30Gi", "other-workloads").Bound("a", epoch, "GPU-0=30Gi").Started(epoch).Ready(epoch))
	pod := replica("new", "chat", "30Gi", "other-workloads").Priority(100).Obj()
	f.wantPostFilter("nobody is evicted for a replica", pod, "")
	f.terminatingUntil("old", epoch.Add(20*time.Second))
	f.wantPostFilter("it waits for the one that goes", pod, "a")
	f.gone("old")
	state := f.begin(pod)
	wantStatus(t, "once it is gone", f.pl.Filter(context.Background(), state, pod, f.nodeInfo("a")), fwk.Success, "")
}

// TestSignaturesTellWorkloadsApart only where that decides anything.
func TestSignaturesTellWorkloadsApart(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	chat, embed := replica("a", "chat", "30Gi", ""), replica("b", "embed", "30Gi", "")
	if f.signature(chat) != f.signature(embed) {
		t.Error("workloads differ where nobody minds")
	}
	if f.signature(replica("c", "chat", "30Gi", "other-workloads")) == f.signature(replica("d", "embed", "30Gi", "other-workloads")) {
		t.Error("workloads that mind are alike")
	}
	f.running(replica("there", "chat", "30Gi", "other-workloads").Bound("a", epoch, "GPU-0=30Gi"))
	if f.signature(chat) == f.signature(embed) {
		t.Error("workloads are alike while somebody there minds")
	}
	f.gone("there")
	if f.signature(chat) != f.signature(embed) {
		t.Error("somebody still minds who is gone")
	}
}

// TestReplicasThatKeepApartAreNotWokenByFreeMemory, of which there was enough before.
func TestReplicasThatKeepApartAreNotWokenByFreeMemory(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	f.running(replica("old", "chat", "30Gi", "other-workloads").Bound("a", epoch, "GPU-0=30Gi").Started(epoch).Ready(epoch))
	f.park(replica("new", "chat", "30Gi", "other-workloads").Obj())
	f.queue.take()
	f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("a", 1, "80Gi").ResourceVersion("2").Obj(), true)
	f.wantActivated("another report")
	f.gone("old")
	f.wantActivated("the replica is gone", "new")
}
