// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/faults"
)

// served is a pod of a Deployment that runs on GPU-1 of node a.
func served(name string) *bt.Pod {
	return replica(name, "chat", "30Gi", "").Bound("a", epoch, "GPU-1=30Gi").Started(epoch).Ready(epoch)
}

// unhealthy is a report whose GPU-1 has a fault.
func unhealthy(reason string) *berthv1alpha1.GPUNode {
	g := bt.MakeGPUNodeOf("a", 2, "80Gi").Obj()
	g.Status.Devices[1].Health, g.Status.Devices[1].Reason = berthv1alpha1.DeviceUnhealthy, reason
	return g
}

// look lets time pass, in which the agent reports and the scheduler looks for faults.
func (f *fixture) look(d time.Duration, report *berthv1alpha1.GPUNode) {
	for passed := time.Duration(0); passed < d; passed += faults.FaultInterval {
		f.clock.Step(faults.FaultInterval)
		if report != nil {
			f.pl.feed.ReportSeen(report, true)
		}
		f.pl.faults.LookForFaults(f.ctx)
	}
}

func TestPodsOfALostGPUAreEvicted(t *testing.T) {
	empty := bt.MakeGPUNode("a").Obj()
	vanished := bt.MakeGPUNodeOf("a", 1, "80Gi").Obj()
	tests := []struct {
		name   string
		action berthv1alpha1.FaultAction // of the argument
		pod    *bt.Pod
		do     func(*fixture)
		want   []string
	}{
		{name: "one that fails", do: func(f *fixture) { f.look(6*time.Minute, unhealthy("Xid79")) }, want: []string{"p"}},
		{name: "one that vanishes", do: func(f *fixture) { f.look(6*time.Minute, vanished) }, want: []string{"p"}},
		{name: "not before its grace is over", do: func(f *fixture) { f.look(4*time.Minute, unhealthy("Xid79")) }},
		{name: "nor if it is well in between", do: func(f *fixture) {
			f.look(4*time.Minute, unhealthy("Xid79"))
			f.look(10*time.Second, bt.MakeGPUNodeOf("a", 2, "80Gi").Obj())
			f.look(4*time.Minute, unhealthy("Xid79"))
		}},
		{name: "a driver that is replaced is no loss", do: func(f *fixture) { f.look(10*time.Minute, unhealthy("DriverUnavailable")) }},
		{name: "nor is a MIG mode that changes", do: func(f *fixture) { f.look(10*time.Minute, unhealthy("MIGModePending")) }},
		{name: "nor an empty report", do: func(f *fixture) { f.look(10*time.Minute, empty) }},
		{name: "nor what an agent said that is silent", do: func(f *fixture) {
			f.look(10*time.Second, unhealthy("Xid79"))
			f.look(10*time.Minute, nil)
		}},
		{name: "a node whose driver is upgraded is left to that", do: func(f *fixture) {
			f.changeNode("a", func(n *corev1.Node) {
				n.Labels = map[string]string{berthv1alpha1.LabelDriverUpgradeState: "pod-restart-required"}
			})
			f.look(10*time.Minute, unhealthy("Xid79"))
		}},
		{name: "not by default", action: berthv1alpha1.ActionIgnore, do: func(f *fixture) { f.look(10*time.Minute, unhealthy("Xid79")) }},
		{
			name: "but if the pod says so", action: berthv1alpha1.ActionIgnore, pod: served("p").Annotation("on-device-lost", "Evict"),
			do: func(f *fixture) { f.look(6*time.Minute, unhealthy("Xid79")) }, want: []string{"p"},
		},
		{name: "not if the pod says otherwise", pod: served("p").Annotation("on-device-lost", "Ignore"), do: func(f *fixture) { f.look(10*time.Minute, unhealthy("Xid79")) }},
		{
			name: "nor if nobody would make it anew", pod: bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi"),
			do: func(f *fixture) { f.look(10*time.Minute, unhealthy("Xid79")) },
		},
		{name: "nor by who does not lead", do: func(f *fixture) {
			f.follows(leader.New())
			f.look(10*time.Minute, unhealthy("Xid79"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.pl.args.OnDeviceLost = berthv1alpha1.ActionEvict
			if tt.action != "" {
				f.pl.args.OnDeviceLost = tt.action
			}
			f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
			pod := served("p")
			if tt.pod != nil {
				pod = tt.pod
			}
			f.running(pod, replica("beside", "chat", "30Gi", "").Bound("a", epoch, "GPU-0=30Gi").Started(epoch).Ready(epoch))
			tt.do(f)
			if diff := cmp.Diff(tt.want, f.api.takeEvicted()); diff != "" {
				t.Errorf("evicted (-want +got)\n%s", diff)
			}
		})
	}
}

// TestFewPodsAreEvictedAtOnce for faults, however many there are: those that are not Ready first, the newest first.
func TestFewPodsAreEvictedAtOnce(t *testing.T) {
	f := newFixture(t)
	f.pl.args.OnDeviceLost = berthv1alpha1.ActionEvict
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	for i := range 7 {
		p := replica(fmt.Sprintf("p%d", i), "chat", "10Gi", "").Bound("a", epoch, "GPU-1=10Gi").Started(epoch).Created(epoch.Add(time.Duration(i) * time.Second))
		if i > 2 {
			p.Ready(epoch)
		}
		f.running(p)
	}
	f.look(5*time.Minute+faults.FaultInterval, unhealthy("Xid79"))
	if diff := cmp.Diff([]string{"p2", "p1", "p0", "p6", "p5"}, f.api.takeEvicted()); diff != "" {
		t.Errorf("evicted at once (-want +got)\n%s", diff)
	}
	for _, gone := range []string{"p0", "p1", "p2", "p5", "p6"} {
		f.gone(gone)
	}
	f.look(faults.FaultBudgetInterval-faults.FaultInterval, unhealthy("Xid79"))
	if got := f.api.takeEvicted(); len(got) > 0 {
		t.Errorf("evicted beyond the budget: %v", got)
	}
	f.look(faults.FaultInterval, unhealthy("Xid79"))
	if diff := cmp.Diff([]string{"p4", "p3"}, f.api.takeEvicted()); diff != "" {
		t.Errorf("evicted later (-want +got)\n%s", diff)
	}
}

func TestPodsThatHoldTooMuchAreEvicted(t *testing.T) {
	f := newFixture(t)
	f.pl.args.OnOveruse = berthv1alpha1.ActionEvict
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	f.running(served("greedy"), served("modest"), served("spared").Annotation("on-overuse", "Event"))
	report := func(amount string) *berthv1alpha1.GPUNode {
		return bt.MakeGPUNodeOf("a", 2, "80Gi").At("GPU-1").Active("greedy", amount).Active("modest", "30Gi").Active("spared", "35Gi").Obj()
	}
	f.look(10*time.Minute, report("30100Mi"))
	f.look(faults.OveruseGrace, report("31Gi"))
	if got := f.api.takeEvicted(); len(got) > 0 {
		t.Fatalf("evicted before its time: %v", got)
	}
	f.look(faults.FaultInterval, report("31Gi"))
	if diff := cmp.Diff([]string{"greedy"}, f.api.takeEvicted()); diff != "" {
		t.Errorf("evicted (-want +got)\n%s", diff)
	}
	f.wantEvent("EvictedForOveruse", "it holds 31Gi on GPU 1 (GPU-1), more than it booked")
}

// TestABudgetHoldsForFaultsToo: what a PodDisruptionBudget refuses is told once, tried again, and costs none of Berth's own.
func TestABudgetHoldsForFaultsToo(t *testing.T) {
	f := newFixture(t)
	f.pl.args.OnDeviceLost = berthv1alpha1.ActionEvict
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	f.running(served("p"))
	refused := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	refused.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause}}
	f.api.refuseEvictions(refused)
	f.look(20*time.Minute, unhealthy("Xid79"))
	if told := f.told("FaultEvictionRefused"); len(told) != 1 {
		t.Errorf("told %q", told)
	}
	f.api.takeEvicted()
	f.api.refuseEvictions(nil)
	f.look(faults.FaultInterval, unhealthy("Xid79"))
	if diff := cmp.Diff([]string{"p"}, f.api.takeEvicted()); diff != "" {
		t.Errorf("evicted (-want +got)\n%s", diff)
	}
	f.wantEvent("EvictedForLostGPU", "GPU 1 (GPU-1) is unhealthy (Xid79)")
}
