// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestRegressionGPUsOfTheDevicePluginUnderOtherNames(t *testing.T) {
	for name, want := range map[corev1.ResourceName]alloc.Reason{
		"nvidia.com/gpu.shared":  ReasonDevicePlugin,
		"nvidia.com/mig-3g.40gb": ReasonDevicePlugin,
		"nvidia.com/a100":        ReasonDevicePlugin,
		"example.test/gpu":       ReasonDevicePlugin, // the admin says so
		"nvidia.com/hostdev":     "",
	} {
		f := newFixture(t)
		f.Policy.GPUResources = []string{"example.test/gpu"}
		f.node.Status.Allocatable[name] = resource.MustParse("8")
		f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
		if got := f.view(Query{}).Reason; got != want {
			t.Errorf("a node with %s: %q, want %q", name, got, want)
		}
		f.node.Labels[berthv1alpha1.LabelDevicePlugin] = berthv1alpha1.DevicePluginShared
		waiting := bt.MakePod("w").NoReference().Limit(name, "1").Node(testNode)
		if want != "" {
			want = ReasonUnreportedDevicePod
		}
		if got := f.view(Query{}, waiting.Obj()).Reason; got != want {
			t.Errorf("a pod that asks for %s: %q, want %q", name, got, want)
		}
	}
}

// sharedWithPlugin makes the fixture's node one that the device plugin and Berth share.
func (f *fixture) sharedWithPlugin() *fixture {
	f.node.Labels[berthv1alpha1.LabelDevicePlugin] = berthv1alpha1.DevicePluginShared
	bt.AdvertiseGPUs(f.node, 8)
	return f
}

func TestRegressionTheEmptyGPUNextToTimeSlicedOnes(t *testing.T) {
	f := newFixture(t).sharedWithPlugin()
	one, two := bt.MakePod("one").WholeGPUs(1).Node(testNode).Obj(), bt.MakePod("two").WholeGPUs(1).Node(testNode).Obj()
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi").At("GPU-0").AssignedPods("one", "two"))
	v := f.view(Query{}, one, two)
	if v.Reason != "" {
		t.Errorf("the node cannot be used: %s", v.Reason)
	}
	f.wantFree("GPU 0 is time-sliced, GPU 1 is empty", v, 0, 80)
}

func TestWhomTheReportOfAnOlderAgentNames(t *testing.T) {
	d := berthv1alpha1.GPUDevice{AssignedTo: "a"}
	if got := d.Assigned(); len(got) != 1 || got[0] != "a" {
		t.Errorf("got %v", got)
	}
	d.AssignedPods = append(d.AssignedPods, "a", "b")
	if got := d.Assigned(); len(got) != 2 {
		t.Errorf("got %v, want each once", got)
	}
}

func TestHowLongAPodMayHoldGPUsThatNoReportTellsOf(t *testing.T) {
	pod := func() *bt.Pod { return bt.MakePod("w").WholeGPUs(1).Node(testNode).Created(epoch) }
	sidecar := func() *bt.Pod {
		p := bt.MakePod("w").InitWholeGPUs(1, false).Node(testNode).Created(epoch)
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers[0].RestartPolicy = &always
		return p
	}
	blocked := ReasonUnreportedDevicePod
	for _, tc := range []struct {
		name string
		pod  *bt.Pod
		// after is how long after the pod was made the node is looked at, and renewed whether its agent says then that
		// its report is true.
		after     time.Duration
		renewed   bool
		cannotAsk bool
		want      alloc.Reason
	}{
		{name: "not admitted yet", pod: pod(), after: 59 * time.Second, renewed: true, want: blocked},
		{name: "not admitted for staleAfter", pod: pod(), after: time.Minute, renewed: true},
		{name: "bound long after it was made", pod: pod().Bound(testNode, epoch.Add(time.Minute)), after: 90 * time.Second, renewed: true, want: blocked},
		{name: "running, and the agent has hardly looked", pod: pod().Started(epoch), after: 14 * time.Second, renewed: true, want: blocked},
		{name: "running, and the agent has looked", pod: pod().Started(epoch), after: 15 * time.Second, renewed: true},
		{name: "running, and the agent is silent", pod: pod().Started(epoch), after: 20 * time.Second, want: blocked},
		{name: "running, and the agent cannot look", pod: pod().Started(epoch), after: time.Hour, renewed: true, cannotAsk: true, want: blocked},
		{name: "an init container that has not ended", pod: bt.MakePod("w").InitWholeGPUs(1, false).Node(testNode).Created(epoch), after: time.Second, renewed: true, want: blocked},
		{name: "a sidecar that runs", pod: sidecar(), after: time.Second, renewed: true, want: blocked},
		{name: "ended", pod: pod().Phase(corev1.PodFailed), after: time.Second, renewed: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t).sharedWithPlugin()
			report := bt.MakeGPUNodeOf(testNode, 2, "80Gi")
			if tc.cannotAsk {
				report.Status.AssignmentsUnknown = "no socket"
			}
			f.report(report)
			f.clock.Step(tc.after)
			if tc.renewed {
				f.LeaseSeen(testNode, f.clock.Now(), true)
			}
			pods := tc.pod.Obj()
			delete(pods.Annotations, berthv1alpha1.AnnotationAllocation)
			if got := f.view(Query{}, pods).Reason; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRegressionAPodWhoseInitContainerHadAGPUDoesNotBlockItsNode(t *testing.T) {
	f := newFixture(t).sharedWithPlugin()
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	pod := bt.MakePod("w").InitWholeGPUs(1, true).Node(testNode).Created(epoch).Started(epoch)
	if got := f.view(Query{}, pod.Obj()).Reason; got != "" {
		t.Errorf("the node cannot be used: %s", got)
	}
}

func TestRegressionABookingOfAGPUThatIsCutIntoInstances(t *testing.T) {
	f := newFixture(t)
	p := bt.MakePod("p").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi").Obj()
	f.PodSeen(p)
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi").Instance("MIG-0", "GPU-0", "40Gi").Instance("MIG-1", "GPU-0", "20Gi"))
	// In the order of UUIDs: GPU-0, which is cut, GPU-1, and the instances, which have 40 and 20.
	f.wantFree("p may start on either", f.view(Query{}, p), 0, 80, 10, 0)
}

func TestRegressionABookingOfAnInstanceThatIsGone(t *testing.T) {
	cut := func() *bt.GPUNode {
		return bt.MakeGPUNodeOf(testNode, 2, "80Gi").Instance("MIG-0", "GPU-0", "40Gi")
	}
	f := newFixture(t)
	f.report(cut())
	r := &Request{Runtime: berthv1alpha1.RuntimeCustom, kinds: kinds{general: &sizes{}}}
	v := f.view(Query{})
	onInstance := alloc.Allocation{Devices: []alloc.DeviceShare{{UUID: "MIG-0", Memory: alloc.GiB(30)}}, TensorParallelSize: 1}
	encoded, err := EncodeAllocation(r.Allocation(&onInstance, &v.Node))
	if err != nil {
		t.Fatal(err)
	}
	p := bt.MakePod("p").Memory("30Gi").Bound(testNode, epoch).Allocation(encoded).Obj()
	f.PodSeen(p)
	f.wantFree("where it is", f.view(Query{}, p), 0, 80, 10)
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
	f.wantFree("the GPU is whole again", f.view(Query{}, p), 50, 80)
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi").Instance("MIG-7", "GPU-0", "40Gi"))
	f.wantFree("the GPU is cut another way", f.view(Query{}, p), 0, 80, 10)
	charge := f.Viewer().Explain(f.node, []*corev1.Pod{p}, &Query{}).Charges[0]
	if len(charge.Lost) != 1 || charge.Lost[0] != (LostDevice{UUID: "MIG-0", Charged: true}) {
		t.Errorf("lost: %v", charge.Lost)
	}
}

func TestRegressionABookingOfAGPUThatIsGoneIsTold(t *testing.T) {
	f := newFixture(t)
	p := bt.MakePod("p").Memory("30Gi").Bound(testNode, epoch, "GPU-9=30Gi").Obj()
	f.PodSeen(p)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	v := f.Viewer().Explain(f.node, []*corev1.Pod{p}, &Query{})
	f.wantFree("nothing else is charged", v, 80)
	if len(v.Charges) != 1 || len(v.Charges[0].Lost) != 1 || v.Charges[0].Lost[0] != (LostDevice{UUID: "GPU-9"}) {
		t.Errorf("charges: %+v", v.Charges)
	}
}
