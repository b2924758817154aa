// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/faults"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// overbookedFixture has a GPU with two pods of 45Gi; b came last.
func overbookedFixture(t *testing.T, b *bt.Pod) *fixture {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.running(bt.MakePod("a").Memory("45Gi").Bound("node", epoch, "GPU-0=45Gi"), b)
	return f
}

func lastBound() *bt.Pod {
	return bt.MakePod("b").Memory("45Gi").Bound("node", epoch.Add(1e9), "GPU-0=45Gi")
}

func (f *fixture) wantOverbooked(what string, want int) {
	f.t.Helper()
	if got := f.pl.fleetStatus()().Numbers.Overbooked; got != want {
		f.t.Errorf("%s: berth_overbooked_devices is %v, want %v", what, got, want)
	}
}

// told returns the notes of the Events so far that have a reason.
func (f *fixture) told(reason string) (notes []string) {
	for {
		select {
		case e := <-f.events.Events:
			if strings.Contains(e, reason) {
				notes = append(notes, e)
			}
		default:
			return notes
		}
	}
}

func TestALaterPodThatIsNotReadyLeaves(t *testing.T) {
	f := overbookedFixture(t, lastBound())
	f.wantOverbooked("two pods on one GPU", 1)
	f.clock.Step(faults.OverbookedGrace / 2)
	if got := f.api.takeDeleted(); got != nil {
		t.Errorf("%v deleted at once: the first may be gone", got)
	}
	f.clock.Step(faults.OverbookedGrace)
	f.eventually("deleting the later one", func() bool { d := f.api.takeDeleted(); return len(d) == 1 && d[0] == "b" })
	f.eventually("telling it", func() bool {
		n := f.told(words.EventOverbooked)
		return len(n) == 1 && strings.Contains(n[0], "GPU 0 (GPU-0) of node node is overbooked: 90Gi is booked, of 80Gi. This pod came last and is not Ready, so it was deleted")
	})
	f.pl.feed.PodGone(lastBound().Obj())
	f.wantOverbooked("it is gone", 0)
}

func TestAPodThatIsReadyStays(t *testing.T) {
	f := overbookedFixture(t, lastBound().Ready(epoch.Add(2e9)))
	for range 3 {
		f.eventually("looking again", f.clock.HasWaiters)
		f.clock.Step(faults.OverbookedGrace * 2)
	}
	f.eventually("telling it", func() bool {
		return strings.Contains(strings.Join(f.told(words.EventOverbooked), ""), "is Ready, so it stays")
	})
	f.eventually("looking again", f.clock.HasWaiters)
	f.clock.Step(faults.OverbookedGrace * 2)
	f.eventually("looking again", f.clock.HasWaiters)
	if n := f.told(words.EventOverbooked); n != nil {
		t.Errorf("told again: %q", n)
	}
	f.wantOverbooked("both stay", 1)
	if got := f.api.takeDeleted(); got != nil {
		t.Errorf("%v deleted", got)
	}
	t.Run("until it is not Ready any more", func(t *testing.T) {
		f.pl.feed.PodSeen(lastBound().NotReady(epoch.Add(3e9)).ResourceVersion("2").Obj())
		f.eventually("deleting it", func() bool {
			if f.clock.HasWaiters() {
				f.clock.Step(faults.OverbookedGrace * 2)
			}
			return len(f.api.takeDeleted()) > 0
		})
	})
}

func TestTheEarlierPodIsGoneBeforeLong(t *testing.T) {
	f := overbookedFixture(t, lastBound())
	f.pl.feed.PodGone(bt.MakePod("a").Memory("45Gi").Bound("node", epoch, "GPU-0=45Gi").Obj())
	f.wantOverbooked("the first is gone", 0)
	f.clock.Step(faults.OverbookedGrace * 2)
	if got := f.api.takeDeleted(); got != nil {
		t.Errorf("%v deleted", got)
	}
}

func TestOnlyALeaderRepairs(t *testing.T) {
	f := newFixture(t)
	f.pl.recovery.SetDone(false)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	f.running(bt.MakePod("a").Memory("45Gi").Bound("node", epoch, "GPU-0=45Gi"), lastBound())
	if s := f.pl.fleetStatus()(); s.Numbers != nil {
		t.Errorf("a leader whose books are not right tells %+v", s.Numbers)
	}

	f = overbookedFixture(t, lastBound())
	f.follows(leader.New())
	for range 2 {
		f.eventually("looking", f.clock.HasWaiters)
		f.clock.Step(faults.OverbookedGrace * 2)
	}
	f.eventually("looking", f.clock.HasWaiters)
	if got := f.api.takeDeleted(); got != nil {
		t.Errorf("%v deleted by one that does not lead", got)
	}
	f.api.onDelete = func(string) error { return apierrors.NewConflict(podResource, "b", nil) }
	f.pl.leader.Alone()
	f.clock.Step(faults.OverbookedGrace * 2) // it has changed since
	f.eventually("looking", f.clock.HasWaiters)
	if n := f.told(words.EventOverbooked); n != nil {
		t.Errorf("told of what was not done: %q", n)
	}
}
