// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"
	"time"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/plugin/faults"
)

func TestRegressionThePodOfAGPUThatIsGoneIsTold(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 2, "80Gi"))
	pod := func() *bt.Pod { return bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi") }
	f.pl.feed.PodSeen(pod().Obj())
	f.pl.feed.PodSeen(bt.MakePod("q").Memory("30Gi").Bound("a", epoch, "GPU-0=30Gi").Obj())
	report := func(gpus int) { f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("a", gpus, "80Gi").Obj(), true) }
	report(1)
	f.clock.Step(time.Second)
	report(2) // it was only away for a moment
	f.clock.Step(time.Minute)
	if got := f.api.notes(); len(got) != 0 {
		t.Fatalf("told of a GPU that is there: %q", got)
	}
	report(1)
	f.clock.Step(faults.LostAfter + time.Millisecond)
	f.eventually("the owner is told", func() bool { return len(f.api.notes()) == 1 })
	if got := f.api.notes()[0]; !strings.HasPrefix(got, "p GPULost: GPU GPU-1, which the pod was given, is no longer reported by node a. ") {
		t.Errorf("told %q", got)
	}
	// Nothing more, whatever happens, and whoever leads.
	f.pl.faults.Forget("p")
	f.pl.feed.PodSeen(pod().ResourceVersion("2").Obj())
	f.eventually("it is known that the owner was told", func() bool {
		f.clock.Step(faults.LostAfter + time.Millisecond)
		report(1)
		return !f.pl.world.Timers.Has("devices/a")
	})
	if got := f.api.notes(); len(got) != 1 {
		t.Errorf("told %q", got)
	}
}

func TestALossThatCannotBeToldIsToldLater(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("a"), bt.MakeGPUNodeOf("a", 1, "80Gi"))
	f.api.failEvents(true)
	f.pl.feed.PodSeen(bt.MakePod("p").Memory("30Gi").Bound("a", epoch, "GPU-1=30Gi").Obj())
	f.clock.Step(faults.LostAfter + time.Millisecond)
	f.eventually("it is to be tried again", func() bool { return f.pl.world.Timers.Has("devices/a") })
	f.api.failEvents(false)
	f.clock.Step(faults.LostRetry + time.Millisecond)
	f.eventually("the owner is told", func() bool { return len(f.api.notes()) == 1 })
}
