// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	me    = "host_me"
	other = "host_other"
)

// world is a lock in a test, and the two clocks of the process that uses it.
type world struct {
	resourcelock.Interface
	t      *testing.T
	clock  instant
	record *resourcelock.LeaderElectionRecord // nil = there is no Lease
	// during runs while a write is under way; fail is what writes answer.
	during func()
	fail   error
	leader *Leader
	lock   resourcelock.Interface
	lost   []string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: instant{wall: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}, leader: New()}
	w.leader.now = func() instant { return w.clock }
	w.lock = w.leader.Guard(w, func(err error) { w.lost = append(w.lost, err.Error()) })
	return w
}

func (w *world) Identity() string { return me }

func (w *world) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if w.record == nil {
		return nil, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, "berth-scheduler")
	}
	return w.record, nil, nil
}

func (w *world) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return w.Update(ctx, r)
}

func (w *world) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	if w.during != nil {
		w.during()
	}
	if w.fail == nil {
		w.record = &r
	}
	return w.fail
}

// pass lets time pass, by each clock.
func (w *world) pass(monotonic, wall time.Duration) {
	w.clock.monotonic += monotonic
	w.clock.wall = w.clock.wall.Add(wall)
}

func (w *world) runs(d time.Duration) { w.pass(d, d) }

// renew renews, or acquires, the lease of 15 s.
func (w *world) renew() error {
	return w.lock.Update(w.t.Context(), resourcelock.LeaderElectionRecord{
		HolderIdentity: me, LeaseDurationSeconds: 15, RenewTime: metav1.NewTime(w.clock.wall),
	})
}

func (w *world) mustRenew() {
	w.t.Helper()
	if err := w.renew(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get() { _, _, _ = w.lock.Get(w.t.Context()) }

func (w *world) heldBy(id string) {
	w.record = &resourcelock.LeaderElectionRecord{HolderIdentity: id, LeaseDurationSeconds: 15}
}

// TestHolds: whether a request of 4 s is admitted, under a lease of 15 s; so its age must be at most 10 s.
func TestHolds(t *testing.T) {
	const request = 4 * time.Second
	for _, tc := range []struct {
		name string
		do   func(w *world)
		want string // "" = admitted
	}{
		{"a process that never led", func(*world) {}, "does not hold the lease"},
		{"a lease just renewed", func(w *world) { w.mustRenew() }, ""},
		{"a lease of 10 s of age", func(w *world) { w.mustRenew(); w.runs(10 * time.Second) }, ""},
		{"a lease that has less left than the request and the margin", func(w *world) { w.mustRenew(); w.runs(10*time.Second + 1) }, "last renewed"},
		{"renewed again", func(w *world) { w.mustRenew(); w.runs(11 * time.Second); w.mustRenew() }, ""},
		{"renewed again within one second, which others do not see", func(w *world) {
			w.mustRenew()
			w.runs(900 * time.Millisecond)
			w.mustRenew()
			w.runs(9200 * time.Millisecond)
		}, "10.1s ago"},
		{"a stopped process: both clocks go on", func(w *world) { w.mustRenew(); w.runs(30 * time.Second) }, "30s ago"},
		{"a frozen VM: the monotonic clock stands still", func(w *world) { w.mustRenew(); w.pass(0, 30*time.Second) }, "30s ago"},
		{"the wall clock is set back while the process is stopped", func(w *world) { w.mustRenew(); w.pass(30*time.Second, -time.Hour) }, "30s ago"},
		{"stopped while the answer of a renewal is under way", func(w *world) {
			w.during = func() { w.runs(30 * time.Second) }
			w.mustRenew()
		}, "30s ago"},
		{"a renewal that fails does not count", func(w *world) {
			w.mustRenew()
			w.runs(11 * time.Second)
			w.fail = errors.New("timed out")
			_ = w.renew()
		}, "11s ago"},
		{"the lease shows another holder", func(w *world) { w.mustRenew(); w.heldBy(other); w.get() }, `held by "host_other"`},
		{"another led in between, and gave it up", func(w *world) { w.mustRenew(); w.heldBy(""); w.get(); w.mustRenew() }, `held by ""`},
		{"the lease was deleted in between", func(w *world) { w.mustRenew(); w.record = nil; w.get(); w.mustRenew() }, "was deleted"},
		{"a standby that waits for another holder, and then acquires", func(w *world) { w.heldBy(other); w.get(); w.mustRenew() }, ""},
		{"without leader election, whatever the clocks say", func(w *world) { w.leader.Alone(); w.runs(time.Hour) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.do(w)
			_, err := w.leader.Begin(request)
			switch {
			case tc.want == "" && err != nil, tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			case err != nil && !errors.Is(err, ErrNotLeading):
				t.Errorf("%v is no ErrNotLeading", err)
			}
		})
	}
}

func TestLeadingNeedsOnlyTheMargin(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	w.runs(14 * time.Second)
	if !w.leader.Leading() {
		t.Error("does not lead with a second left")
	}
	if w.runs(1); w.leader.Leading() {
		t.Error("leads with less than the margin left")
	}
}

// TestLost: the process is told once that another led, and only if it led itself.
func TestLost(t *testing.T) {
	w := newWorld(t)
	w.heldBy(other)
	w.get()
	w.mustRenew()
	if len(w.lost) != 0 {
		t.Errorf("a standby that waited is told %q", w.lost)
	}
	w.heldBy(other)
	w.get()
	w.get()
	if len(w.lost) != 1 || w.lost[0] != `the lease is held by "host_other"` {
		t.Errorf("told %q, want it once", w.lost)
	}
}

func TestElected(t *testing.T) {
	w := newWorld(t)
	elected := func() bool {
		select {
		case <-w.leader.Elected():
			return true
		default:
			return false
		}
	}
	if w.get(); elected() || w.leader.Identity() != me {
		t.Errorf("%q is elected before it acquired the lease", w.leader.Identity())
	}
	w.mustRenew()
	w.mustRenew()
	if !elected() {
		t.Error("not elected")
	}
	if alone().Identity() != "" {
		t.Error("a process without leader election has a name in a lease")
	}
}

// alone returns the leader of a process without leader election.
func alone() *Leader {
	l := New()
	l.Alone()
	return l
}

func TestTookOver(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(w *world)
		want bool
	}{
		{"the first one ever, or after the lease was deleted", func(w *world) {}, true},
		{"after one that gave the lease up", func(w *world) { w.heldBy("") }, false},
		{"after one whose lease expired", func(w *world) { w.heldBy(other) }, true},
		{"after one that gave the lease up while this one watched", func(w *world) { w.heldBy(other); w.get(); w.heldBy("") }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.do(w)
			w.get()
			w.mustRenew()
			w.heldBy(me)
			w.get()
			w.mustRenew() // later renewals change nothing
			if got := w.leader.TookOver(); got != tc.want {
				t.Errorf("took over: %v, want %v", got, tc.want)
			}
		})
	}
}

// TestGivingUpWaits: the lease is given up only once what was admitted has ended, and nothing is admitted meanwhile.
func TestGivingUpWaits(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	end, err := w.leader.Begin(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	end2, err := w.leader.Begin(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	release := func(ctx context.Context) error {
		return w.lock.Update(ctx, resourcelock.LeaderElectionRecord{LeaseDurationSeconds: 1})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := release(ctx); err == nil || w.record.HolderIdentity != me {
		t.Errorf("given up (%v) while two requests are under way", err)
	}
	if _, err := w.leader.Begin(time.Second); !errors.Is(err, ErrNotLeading) {
		t.Errorf("admitted (%v) while it ends", err)
	}
	end()
	end()
	released := make(chan error)
	go func() { released <- release(t.Context()) }()
	select {
	case err := <-released:
		t.Errorf("given up (%v) while a request is under way", err)
	case <-time.After(20 * time.Millisecond): // can only fail to notice
	}
	end2()
	if err := <-released; err != nil || w.record.HolderIdentity != "" {
		t.Errorf("not given up: %v", err)
	}
}
