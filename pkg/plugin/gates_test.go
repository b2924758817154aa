// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// These are about feature gates of Kubernetes 1.37 that are off by default.

// TestDeferredResize: with InPlacePodVerticalScalingSchedulerPreemption a bound pod goes through a cycle, of which its GPU
// memory is no part: what it is measured to hold is its own.
func TestDeferredResize(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	victim := bt.MakePod("victim").Memory("40Gi").Bound("node", epoch, "GPU-0=40Gi").Started(epoch).Ready(epoch)
	resized := bt.MakePod("resized").Model("hf://org/model").Priority(10).Bound("node", epoch, "GPU-0=40Gi").Started(epoch).Ready(epoch)
	f.running(victim, resized)
	pod := resized.Obj()
	wantStatus(t, "PreEnqueue", f.pl.PreEnqueue(f.ctx, pod), fwk.Success, "")
	state := newState()
	wantStatus(t, "PreFilter", second(f.pl.PreFilter(f.ctx, state, pod, f.nodeInfos())), fwk.Skip, "")
	if f.pl.parked.Get(pod.UID) != nil {
		t.Error("it waits for GPU memory")
	}
	_, status := f.pl.PostFilter(f.ctx, state, pod, framework.NewDefaultNodeToStatus())
	if status.IsSuccess() || len(f.api.takeDeleted()) != 0 {
		t.Errorf("PostFilter: %v, evicts for GPU memory", status)
	}
}

// TestBindingsAreNotQueued: with SchedulerAsyncAPICalls the framework has a queue of calls. A Binding in it has no
// deadline, and could take effect after it was found not to have.
func TestBindingsAreNotQueued(t *testing.T) {
	f, pod, state := bindFixture(t)
	f.framework.SetAPICacher(noQueue{t: t})
	wantStatus(t, "Bind", f.pl.Bind(f.ctx, state, pod, "node"), fwk.Success, "")
	if len(f.api.bindings) != 1 {
		t.Errorf("%d Bindings arrived", len(f.api.bindings))
	}
}

type noQueue struct {
	fwk.APICacher
	t *testing.T
}

func (q noQueue) BindPod(*corev1.Binding) (<-chan error, error) {
	q.t.Error("a Binding is queued")
	return nil, errors.New("queued")
}

// groupInfo is a group of pods.
type groupInfo struct {
	fwk.PodGroupInfo
	pods     []*corev1.Pod
	children []fwk.PodGroupInfo
}

func (g groupInfo) GetUnscheduledPods() []*corev1.Pod { return g.pods }
func (g groupInfo) GetChildren() []fwk.PodGroupInfo   { return g.children }

// TestGroupsEvictNobodyForGPUMemory: with GenericWorkload.
func TestGroupsEvictNobodyForGPUMemory(t *testing.T) {
	f := newFixture(t)
	plain := bt.MakePod("plain").Obj()
	for _, tc := range []struct {
		name string
		pods []*corev1.Pod
		want bool
	}{
		{"plain pods", []*corev1.Pod{plain}, false},
		{"one that asks for memory", []*corev1.Pod{plain, bt.MakePod("a").Memory("30Gi").Obj()}, true},
		{"one whose memory is not known", []*corev1.Pod{bt.MakePod("a").Model("hf://org/model").Obj()}, true},
		{"one whose request cannot be read", []*corev1.Pod{bt.MakePod("a").Memory("30").Obj()}, true},
	} {
		if got := f.pl.anyAsksForMemory(groupInfo{pods: tc.pods}); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if got := f.pl.anyAsksForMemory(groupInfo{children: []fwk.PodGroupInfo{groupInfo{pods: tc.pods}}}); got != tc.want {
			t.Errorf("%s, in a group below: %v, want %v", tc.name, got, tc.want)
		}
	}
	_, status := f.pl.PodGroupPostFilter(f.ctx, nil, groupInfo{pods: []*corev1.Pod{bt.MakePod("a").Memory("30Gi").Obj()}}, nil)
	wantStatus(t, "PodGroupPostFilter", status, fwk.Unschedulable, gpustate.ReasonGroupEvictsNobody)
}

// TestPodsOfAGroupAreSeen: while a group is placed its pods come to the snapshot, and the generation of the node stays.
func TestPodsOfAGroupAreSeen(t *testing.T) {
	for _, group := range []bool{true, false} {
		f := newFixture(t)
		node := bt.AdvertiseGPUs(bt.MakeNode("node"), 1)
		node.Labels[berthv1alpha1.LabelDevicePlugin] = berthv1alpha1.DevicePluginShared
		f.node(node, bt.MakeGPUNodeOf("node", 1, "80Gi"))
		pod := bt.MakePod("a").Memory("30Gi").Obj()
		state := framework.NewCycleState()
		if group {
			state.SetPodGroupSchedulingCycle(framework.NewCycleState())
		}
		if _, status := f.pl.PreFilter(f.ctx, state, pod, f.nodeInfos()); !status.IsSuccess() {
			t.Fatal(status)
		}
		wantStatus(t, "an empty node", f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node")), fwk.Success, "")
		member := bt.MakePod("member").WholeGPUs(1).Node("node").Obj()
		info, err := framework.NewPodInfo(member)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.lister.AssumePod(info); err != nil {
			t.Fatal(err)
		}
		status := f.pl.Filter(f.ctx, state, pod, f.nodeInfo("node"))
		if group != (status.Message() == string(gpustate.ReasonUnreportedDevicePod)) {
			t.Errorf("in a cycle of a group: %v: %v", group, status)
		}
	}
}
