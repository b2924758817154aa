// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestAWaitAndItsEndAreLogged: the pod waits on a node where memory is on its way back, until that is cordoned.
func TestAWaitAndItsEndAreLogged(t *testing.T) {
	f, log := twoFullNodes(t), processLog
	f.ctx = klog.NewContext(f.ctx, log.logger(2))
	f.terminatingUntil("on-a", epoch.Add(20*time.Second))
	log.decisions(t)
	pod := bt.MakePod("preemptor").Memory("60Gi").Priority(100).Obj()
	f.wantPostFilter("at first", pod, "a")
	f.wantDecisions("it waits", log, "A pod waits for memory that comes back pod=preemptor node=a")
	f.wantPostFilter("while nothing changes", pod, "a")
	f.wantDecisions("it waits on", log)
	f.changeNode("a", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	f.wantPostFilter("afterwards", pod, "b", "on-b")
	f.wantDecisions("it goes another way", log,
		"A pod gave up the place that it waited for pod=preemptor node=a reason=node-refused",
		"Evicting pods for a pod pod=preemptor node=b cost=1 victim (1 active), priority at most 0, 70Gi to reload",
		"Evicted a pod pod=on-b node=b reason=LowerPriority preemptor=preemptor")
}

func TestWakeUpsAreCounted(t *testing.T) {
	f := waitingFixture(t)
	before := wakeUps(t)
	f.pl.feed.ReportSeen(held("70Gi", "70Gi").Obj(), true)
	if n := wakeUps(t) - before; n != 0 {
		t.Errorf("%v wake-ups by a report without a change", n)
	}
	f.node(bt.MakeNode("other"), bt.MakeGPUsOf("other", 1, "80Gi"))
	f.wantActivated("room elsewhere", "waiting")
	if n := wakeUps(t) - before; n != 1 {
		t.Errorf("%v wake-ups by room elsewhere, want 1", n)
	}
}

func wakeUps(t *testing.T) float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "berth_scheduler_wakeups_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("there is no such metric")
	return 0
}
