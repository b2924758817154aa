// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"slices"
	"strings"
	"testing"
	"time"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestPreemptionDelay: an autoscaler has the time to add a node before anybody is evicted, and adds none for pods that are
// nominated. What comes back soon is waited for all the same.
func TestPreemptionDelay(t *testing.T) {
	f := newFixture(t)
	f.pl.args.PreemptionDelay.Duration = 2 * time.Minute
	f.node(bt.MakeNode("n"), bt.MakeGPUNodeOf("n", 1, "80Gi"))
	f.resident("low", "n", nil, "GPU-0=60Gi")
	pod := bt.MakePod("p").Memory("50Gi").Priority(5).Obj()
	f.park(pod)
	for _, after := range []time.Duration{0, time.Minute} {
		f.clock.Step(after)
		node, status := f.postFilter(pod)
		const want = "nobody is evicted for it before 2026-11-23T12:02:00Z (preemptionDelay)"
		if node != "" || !strings.Contains(status.Message(), want) || !strings.Contains(status.Message(), "nearest on node n") {
			t.Errorf("nominated to %q: %s", node, status.Message())
		}
		if deleted := f.api.takeDeleted(); len(deleted) > 0 {
			t.Errorf("evicted before its time: %v", deleted)
		}
	}
	f.clock.Step(time.Minute + 2*time.Millisecond)
	f.eventually("it is retried", func() bool { return slices.Contains(f.queue.take(), "p") })
	f.report("n", "2")
	if node, status := f.postFilter(pod); node != "n" {
		t.Errorf("nominated to %q: %s", node, status.Message())
	}
	if deleted := f.api.takeDeleted(); !slices.Equal(deleted, []string{"low"}) {
		t.Errorf("evicted: %v", deleted)
	}
	f.pl.wake.Forget("p")
	if from := f.pl.wake.EvictsFrom(pod); !from.Equal(f.clock.Now().Add(2 * time.Minute)) {
		t.Errorf("after it was forgotten it evicts from %s on", from)
	}
}
