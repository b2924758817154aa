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
	"github.com/berth-dev/berth/pkg/plugin/faults"
	"github.com/berth-dev/berth/pkg/plugin/words"
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
		"the report lacks it again": func(f *fixture) { f.pl.feed.ReportSeen(forged("2").Obj(), true) },
		"the report is deleted":     func(f *fixture) { f.pl.tracker.ReportGone("hostile"); f.pl.faults.WatchContested("hostile") },
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
			f.pl.feed.ReportSeen(forged("1", "GPU-0").Obj(), true)
			pod := bt.MakePod("waits").Memory("60Gi").Obj()
			f.park(pod)
			state := f.begin(pod)
			for _, node := range []string{"victim", "hostile"} {
				wantStatus(t, node, f.pl.Filter(f.ctx, state, pod, f.nodeInfo(node)), fwk.UnschedulableAndUnresolvable, gpustate.ReasonContestedDevices)
			}
			f.clock.Step(faults.ContestedDelay + time.Second)
			f.wantContestedEvents("victim and hostile", "hostile and victim")
			f.clock.Step(faults.ContestedAgain + time.Second)
			f.queue.take()

			clear(f)
			f.clock.Step(faults.ContestedDelay + time.Second)
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
			if strings.HasPrefix(e, "Warning "+words.EventContested) && part != "" && strings.Contains(e, "GPU 0 (GPU-0) by "+part+".") {
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
		if strings.Contains(e, words.EventContested) {
			f.t.Errorf("told once more: %q", e)
		}
	default:
	}
}
