// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"path/filepath"
	"testing"
	"time"

	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/berth-dev/berth/internal/metricsdoc"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/fleet"
	"github.com/berth-dev/berth/pkg/fleet/export"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/leader"
)

// TestMetricsAreDocumented: each has a row, and each row is of a metric.
func TestMetricsAreDocumented(t *testing.T) {
	f := newFixture(t)
	f.pl.args.PerNodeMetrics = true
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.running(bt.MakePod("a").Memory("45Gi").Bound("node", epoch, "GPU-0=45Gi"))
	f.pl.metrics.fleet.Serve(f.pl.fleetStatus())
	t.Cleanup(func() { f.pl.metrics.fleet.Serve(func() export.Status { return export.Status{} }) })
	metricsdoc.Check(t, filepath.Join("..", "..", "docs", "metrics.md"), "scheduler", legacyregistry.Registerer())
}

func TestWhatPodsWaitFor(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.running(bt.MakePod("a").Memory("50Gi").Bound("node", epoch, "GPU-0=50Gi"))
	elsewhere := bt.MakePod("elsewhere").Memory("1Gi").Scheduler("other").Obj()
	ended := bt.MakePod("ended").Memory("1Gi").Phase("Failed").Obj()
	f.known(elsewhere, ended, bt.MakePod("plain").Obj(), bt.MakePod("going").Memory("1Gi").Terminating(epoch).Obj())
	f.known(bt.MakePod("wrong").Memory("30").Obj(), bt.MakePod("gated").Model("hf://a/b").Obj(), bt.MakePod("new").Memory("40Gi").Obj())
	bound := bt.MakePod("being bound").Memory("20Gi").Obj()
	f.reserve(bound, "node")
	share := []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(5)}}
	waits := bt.MakePod("waits").Memory("60Gi").Obj()
	f.known(waits)
	if _, err := f.pl.tracker.Ledger.Claim(waits, "node", share, gpustate.Claim{Deadline: epoch.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if got, want := pendingOf(f), (map[fleet.Reason]int{fleet.InvalidRequest: 1, fleet.ModelUnknown: 1, fleet.NotTried: 1, fleet.Binding: 1, fleet.MemoryReturning: 1}); !equal(got, want) {
		t.Errorf("pods wait for %v, want %v", got, want)
	}
}

func pendingOf(f *fixture) map[fleet.Reason]int {
	byReason := map[fleet.Reason]int{}
	for reason, byAge := range f.pl.fleetStatus()().Numbers.Pending {
		for _, n := range byAge {
			if n != 0 {
				byReason[fleet.Reason(reason)] += n
			}
		}
	}
	return byReason
}

func equal(a, b map[fleet.Reason]int) bool {
	for r := range a {
		if a[r] != b[r] {
			return false
		}
	}
	return len(a) == len(b)
}

// TestOnlyTheLeaderTells, and one whose books are not right tells only that it places nothing.
func TestOnlyTheLeaderTells(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	status := f.pl.fleetStatus()
	if s := status(); !s.Leads || !s.Places || s.Numbers == nil {
		t.Errorf("a leader: %+v", s)
	}
	f.pl.recovery.SetDone(false)
	if s := status(); !s.Leads || s.Places || s.Numbers != nil {
		t.Errorf("a leader whose books are not right: %+v", s)
	}
	f.pl.recovery.SetDone(true)
	f.follows(leader.New())
	if s := status(); s.Leads || s.Numbers != nil {
		t.Errorf("one that does not lead: %+v", s)
	}
}
