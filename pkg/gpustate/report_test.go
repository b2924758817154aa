// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestReportDevices(t *testing.T) {
	gn := bt.MakeGPUNode(testNode).
		GPU("GPU-c", "80Gi").Reserved("1Gi").
		GPU("GPU-a", "40Gi").Model("NVIDIA A100-SXM4-40GB").Unhealthy().
		GPU("GPU-b", "80Gi").AssignedTo("whole").
		GPU("GPU-d", "1Gi").Reserved("2Gi").Obj()
	link := func(i int, peer string, t berthv1alpha1.LinkType) {
		gn.Status.Devices[i].Links = append(gn.Status.Devices[i].Links, berthv1alpha1.GPULink{Peer: peer, Type: t})
	}
	gn.Status.Devices[0].NUMANode, gn.Status.Devices[2].NUMANode = ptr.To[int32](1), ptr.To[int32](0)
	link(0, "GPU-b", berthv1alpha1.LinkNVLink)
	link(2, "GPU-c", berthv1alpha1.LinkNVLink)
	link(0, "GPU-a", berthv1alpha1.LinkPCIe)
	link(0, "GPU-gone", berthv1alpha1.LinkNVLink)
	link(0, "GPU-c", berthv1alpha1.LinkNVLink)
	h100 := "NVIDIA H100 80GB HBM3"
	want := []alloc.Device{
		{UUID: "GPU-a", Index: 1, Model: "NVIDIA A100-SXM4-40GB", Total: alloc.GiB(40), Capacity: alloc.MiB(40*1024 - 256), Unused: alloc.GiB(40), Blocked: alloc.ReasonUnhealthy},
		{UUID: "GPU-b", Index: 2, Model: h100, Total: alloc.GiB(80), Capacity: alloc.MiB(80*1024 - 256), Unused: alloc.GiB(80), Blocked: alloc.ReasonAssigned, Links: 1 << 2, NUMA: 1},
		{UUID: "GPU-c", Index: 0, Model: h100, Total: alloc.GiB(80), Capacity: alloc.MiB(79*1024 - 256), Unused: alloc.GiB(79), Links: 1 << 1, NUMA: 2},
		{UUID: "GPU-d", Index: 3, Model: h100, Total: alloc.GiB(1)},
	}
	if diff := cmp.Diff(want, newReport(gn, alloc.MiB(256), nil, epoch).Devices, bytesEqual); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReportReadsWhatNoAgentShouldWrite(t *testing.T) {
	for _, tc := range []struct {
		name     string
		change   func(*berthv1alpha1.GPUNode)
		devices  int
		capacity alloc.Bytes
	}{
		{"a device twice", func(gn *berthv1alpha1.GPUNode) {
			gn.Status.Devices = append(gn.Status.Devices, gn.Status.Devices[0])
		}, 1, alloc.GiB(80)},
		{"a negative total", func(gn *berthv1alpha1.GPUNode) {
			gn.Status.Devices[0].Memory.Total = resource.MustParse("-80Gi")
		}, 1, alloc.Bytes{}},
		{"more reserved than there is", func(gn *berthv1alpha1.GPUNode) {
			gn.Status.Devices[0].Memory.Reserved = resource.MustParse("81Gi")
		}, 1, alloc.Bytes{}},
		{"no memory at all (unified memory)", func(gn *berthv1alpha1.GPUNode) {
			gn.Status.Devices[0].Memory = berthv1alpha1.GPUMemory{}
		}, 1, alloc.Bytes{}},
		{"more devices than can be planned on", func(gn *berthv1alpha1.GPUNode) {
			*gn = *bt.MakeGPUNodeOf(testNode, alloc.MaxDevices+5, "80Gi").Obj()
		}, alloc.MaxDevices, alloc.GiB(80)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gn := bt.MakeGPUNodeOf(testNode, 1, "80Gi").Obj()
			tc.change(gn)
			r := newReport(gn, alloc.Bytes{}, nil, epoch)
			if len(r.Devices) != tc.devices || r.Devices[0].Capacity != tc.capacity {
				t.Errorf("%d devices, the first with %v, want %d with %v", len(r.Devices), r.Devices[0].Capacity, tc.devices, tc.capacity)
			}
		})
	}
}

// TestIdleTime feeds reports at moments of the scheduler's clock; agents' clocks are their own.
func TestIdleTime(t *testing.T) {
	type seen struct {
		after  time.Duration // since the report before
		report func(agent time.Time) *bt.GPUNode
	}
	gpu := func() *bt.GPUNode { return bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi") }
	active := func(time.Time) *bt.GPUNode { return gpu().Active("a", "10Gi") }
	unmeasured := func(time.Time) *bt.GPUNode { return gpu().Process("a", "10Gi") }
	absent := func(time.Time) *bt.GPUNode { return gpu() }
	// idle for a while by the agent's clock, which is some time ahead of ours
	idle := func(d, ahead time.Duration) func(time.Time) *bt.GPUNode {
		return func(now time.Time) *bt.GPUNode { return gpu().Idle("a", "10Gi", now.Add(ahead-d)) }
	}
	s, h := time.Second, time.Hour
	for _, tc := range []struct {
		name string
		seen []seen
		want time.Duration // idle for so long at the last report
		ok   bool
	}{
		{"nobody is there", []seen{{0, absent}}, 0, false},
		{"active is not idle", []seen{{0, active}}, 0, false},
		{"never measured is not idle", []seen{{0, unmeasured}, {h, unmeasured}}, 0, false},
		{"idle from when active was seen to go away", []seen{{0, active}, {s, idle(s, 0)}, {9 * s, idle(10*s, 0)}}, 9 * s, true},
		{"an agent's clock an hour ahead changes nothing", []seen{{0, active}, {s, idle(s, h)}, {9 * s, idle(10*s, h)}}, 9 * s, true},
		{"an agent's clock an hour behind changes nothing", []seen{{0, active}, {s, idle(s, -h)}, {9 * s, idle(10*s, -h)}}, 9 * s, true},
		{"found idle at start: the agent's clock is believed", []seen{{0, idle(10*time.Minute, 0)}}, 10 * time.Minute, true},
		{"found idle at start, and never into the future", []seen{{0, idle(s, h)}}, 0, true},
		{"found idle at start, counted on by our clock", []seen{{0, idle(10*s, 0)}, {5 * s, idle(15*s, 0)}}, 15 * s, true},
		{"a pod that comes later is not believed", []seen{{0, absent}, {s, idle(h, 0)}, {2 * s, idle(h+2*s, 0)}}, 2 * s, true},
		{"computed too shortly to be seen: idle anew", []seen{{0, idle(h, 0)}, {10 * s, idle(s, 0)}, {5 * s, idle(6*s, 0)}}, 5 * s, true},
		{"active again: idle anew", []seen{{0, idle(h, 0)}, {s, active}, {s, idle(0, 0)}, {3 * s, idle(3*s, 0)}}, 3 * s, true},
		{"no longer measured is no longer idle", []seen{{0, idle(h, 0)}, {s, unmeasured}}, 0, false},
		{"measured anew: the time before does not count", []seen{{0, idle(h, 0)}, {s, unmeasured}, {s, idle(h+2*s, 0)}, {s, idle(h+3*s, 0)}}, s, true},
		{"gone and back: the time before does not count", []seen{{0, idle(h, 0)}, {s, absent}, {s, idle(h+2*s, 0)}}, 0, true},
		{"a clock that is set back does not make it idle longer", []seen{{0, active}, {s, idle(s, 0)}, {s, idle(24*h, 0)}}, s, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			for i, seen := range tc.seen {
				f.clock.Step(seen.after)
				f.ReportSeen(seen.report(f.clock.Now()).Obj(), i > 0)
			}
			r, _ := f.Store.Report(testNode, 0)
			since, ok := r.IdleSince("a")
			if ok != tc.ok || ok && f.clock.Now().Sub(since) != tc.want {
				t.Errorf("idle %v for %v, want %v for %v", ok, f.clock.Now().Sub(since), tc.ok, tc.want)
			}
		})
	}
}

func TestIdleOverSeveralGPUs(t *testing.T) {
	ago := epoch.Add(-time.Hour)
	two := func() *bt.GPUNode { return bt.MakeGPUNode(testNode).GPU("GPU-0", "80Gi") }
	for _, tc := range []struct {
		name string
		gn   *bt.GPUNode
		want bool
	}{
		{"idle on both", two().Idle("a", "1Gi", ago).GPU("GPU-1", "80Gi").Idle("a", "1Gi", ago), true},
		{"active on one", two().Idle("a", "1Gi", ago).GPU("GPU-1", "80Gi").Active("a", "1Gi"), false},
		{"not measured on one (a MIG instance)", two().Idle("a", "1Gi", ago).GPU("GPU-1", "80Gi").Process("a", "1Gi"), false},
		{"another pod is active", two().Idle("a", "1Gi", ago).Active("b", "1Gi"), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newReport(tc.gn.Obj(), alloc.Bytes{}, nil, epoch)
			if since, ok := r.IdleSince(types.UID("a")); ok != tc.want || ok && !since.Equal(ago) {
				t.Errorf("idle %v since %v, want %v since %v", ok, since, tc.want, ago)
			}
		})
	}
}

func TestReportThatCannotBeReadIsNoReport(t *testing.T) {
	f := newFixture(t)
	reason := func() alloc.Reason { return f.Viewer().View(f.node, nil, &Query{}).Reason }
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	before := f.Viewer()
	f.ReportUnreadable(testNode)
	f.ReportUnreadable("other")
	if got := reason(); got != ReasonUnreadableReport {
		t.Errorf("a report that cannot be read: reason %q", got)
	}
	if got := before.View(f.node, nil, &Query{}).Reason; got != "" {
		t.Errorf("an older snapshot changed: reason %q", got)
	}
	f.ReportGone(testNode)
	if got := reason(); got != ReasonNoReport {
		t.Errorf("a report that is gone: reason %q", got)
	}
	f.ReportUnreadable(testNode)
	f.reshaped = 0
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	if got := reason(); got != "" || f.reshaped != 1 {
		t.Errorf("a report that can be read again: reason %q, told %d times", got, f.reshaped)
	}
	if _, left := f.Store.unreadable[testNode]; left || len(f.Store.unreadable) != 1 {
		t.Errorf("unreadable are %v, want the other node", f.Store.unreadable)
	}
}
