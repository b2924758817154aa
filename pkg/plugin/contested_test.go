// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"
	"time"

	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// forged is a report by which a node takes part in the GPU of another.
func forged(version string, gpus ...string) *bt.GPUNode {
	g := bt.MakeGPUNode("hostile").ResourceVersion(version)
	for _, uuid := range gpus {
		g.GPU(uuid, "80Gi")
	}
	return g
}

// TestANodeCopiesTheGPUOfAnother: nobody is placed on it, both nodes are told once of each other, and whoever waits is
// placed when one of them takes it back.
func TestANodeCopiesTheGPUOfAnother(t *testing.T) {
	for name, clear := range map[string]func(*fixture){
		"the report lacks it again": func(f *fixture) { f.pl.reportSeen(forged("2").Obj(), true) },
		"the report is deleted":     func(f *fixture) { f.pl.tracker.ReportGone("hostile"); f.pl.watchContested("hostile") },
		"its agent falls silent": func(f *fixture) {
			for range 8 {
				f.pl.tracker.LeaseSeen("victim", f.clock.Now(), true)
				f.clock.Step(10 * time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.node(bt.MakeNode("victim"), bt.MakeGPUNodeOf("victim", 1, "80Gi"))
			f.node(bt.MakeNode("hostile"), nil)
			f.pl.reportSeen(forged("1", "GPU-0").Obj(), true)
			pod := bt.MakePod("waits").Memory("60Gi").Obj()
			f.park(pod)
			state := f.begin(pod)
			for _, node := range []string{"victim", "hostile"} {
				wantStatus(t, node, f.pl.Filter(f.ctx, state, pod, f.nodeInfo(node)), fwk.UnschedulableAndUnresolvable, gpustate.ReasonContestedDevices)
			}
			f.clock.Step(contestedDelay + time.Second)
			f.wantContestedEvents("victim and hostile", "hostile and victim")
			f.clock.Step(contestedAgain + time.Second)
			f.queue.take()

			clear(f)
			f.clock.Step(contestedDelay + time.Second)
			f.eventually("the pod is retried", func() bool {
				f.clock.Step(time.Second)
				f.pl.tracker.LeaseSeen("victim", f.clock.Now(), true)
				return len(f.queue.take()) > 0
			})
			wantStatus(t, "afterwards", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("victim")), fwk.Success, "")
			f.wantContestedEvents()
		})
	}
}

// wantContestedEvents waits for Events of GPUs that are reported twice, each of which says something, in any order.
func (f *fixture) wantContestedEvents(parts ...string) {
	f.t.Helper()
	for range parts {
		f.eventually("an Event", func() bool { return len(f.events.Events) > 0 })
		e := <-f.events.Events
		found := false
		for i, part := range parts {
			if strings.HasPrefix(e, "Warning "+eventContested) && part != "" && strings.Contains(e, "GPU 0 (GPU-0) by "+part+".") {
				parts[i], found = "", true
				break
			}
		}
		if !found {
			f.t.Errorf("told %q", e)
		}
	}
	select {
	case e := <-f.events.Events:
		if strings.Contains(e, eventContested) {
			f.t.Errorf("told once more: %q", e)
		}
	default:
	}
}

// TestANodeThatChangesItsReportAllTheTime wakes and tells of another node once in a while only.
func TestANodeThatChangesItsReportAllTheTime(t *testing.T) {
	var c contested
	gpu := []gpustate.Contested{{UUID: "GPU-0", Nodes: []string{"hostile"}}}
	told := 0
	for i := range 100 {
		devices := gpu
		if i%2 == 1 {
			devices = nil
		}
		tell, cleared := c.set("victim", devices, epoch.Add(time.Duration(i)*contestedDelay))
		if tell {
			told++
		}
		if cleared != (devices == nil) {
			t.Fatalf("look %d: cleared %v", i, cleared)
		}
	}
	// 200 s, and at most once in 60 s.
	if told != 4 {
		t.Errorf("told %d times, want 4", told)
	}
	if c.set("victim", nil, epoch.Add(time.Hour)); len(c.nodes) != 0 {
		t.Error("a node is remembered on which nothing is contested")
	}
}
