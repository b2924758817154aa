// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testclock "k8s.io/utils/clock/testing"
)

var (
	well    = []Finding{{"a", InForce, ""}, {"b", InForce, ""}}
	missing = []Finding{{"a", Missing, "gone"}, {"b", InForce, ""}}
	both    = []Finding{{"a", Missing, "gone"}, {"b", Unknown, "no answer"}}
)

// TestRounds: what is told, and when the next round is due.
func TestRounds(t *testing.T) {
	const interval = 5 * time.Minute
	type round struct {
		finds []Finding
		// standby says that another process leads; idle is how much time passes before the round.
		standby bool
		idle    time.Duration

		why  string // of the state afterwards
		told []string
		next time.Duration
	}
	tests := []struct {
		name   string
		rounds []round
	}{
		{"all is well, and nobody is told", []round{
			{finds: well, told: []string{"changed true"}, next: interval},
			{finds: well, next: interval},
		}},
		{"a problem that passes at once counts for nothing", []round{
			{finds: well, told: []string{"changed true"}, next: interval},
			{finds: missing, next: confirmAfter},
			{finds: well, next: interval},
		}},
		{"a problem is told once two rounds have found it, and that it is over", []round{
			{finds: well, told: []string{"changed true"}, next: interval},
			{finds: missing, next: confirmAfter},
			{finds: missing, why: "a: gone", told: []string{"changed false", "event a: gone"}, next: retryAfter},
			{finds: missing, why: "a: gone", next: retryAfter},
			{finds: well, told: []string{"changed true", "event "}, next: interval},
		}},
		{"problems from the start", []round{
			{finds: both, why: notChecked, next: confirmAfter},
			{finds: both, why: "a: gone; b: no answer", told: []string{"event a: gone; b: no answer"}, next: retryAfter},
			{finds: missing, why: "a: gone", told: []string{"event a: gone"}, next: retryAfter},
		}},
		{"what lasts is told again before the Event is gone", []round{
			{finds: missing, why: notChecked, next: confirmAfter},
			{finds: missing, why: "a: gone", told: []string{"event a: gone"}, next: retryAfter},
			{finds: missing, idle: tellAgainAfter, why: "a: gone", told: []string{"event a: gone"}, next: retryAfter},
		}},
		{"a standby knows and does not tell; it tells when it leads", []round{
			{finds: missing, standby: true, why: notChecked, next: confirmAfter},
			{finds: missing, standby: true, why: "a: gone", next: retryAfter},
			{finds: missing, why: "a: gone", told: []string{"event a: gone"}, next: retryAfter},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clock := testclock.NewFakeClock(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
			var now round
			var told []string
			state := &State{}
			state.Expect()
			w := &Watcher{
				Check:    func(context.Context) []Finding { return now.finds },
				Interval: interval, State: state, Clock: clock,
				Leading: func() bool { return !now.standby },
				Found:   func(Finding) {},
				Changed: func(well bool) { told = append(told, fmt.Sprintf("changed %v", well)) },
				Tell:    func(why string) { told = append(told, "event "+why) },
			}
			for i, r := range tt.rounds {
				clock.Step(r.idle)
				now, told = r, nil
				next := w.round(t.Context())
				if diff := cmp.Diff(r.told, told); diff != "" {
					t.Errorf("round %d: told (-want +got):\n%s", i+1, diff)
				}
				if next != r.next || state.Why() != r.why {
					t.Errorf("round %d: next after %s, %q; want %s, %q", i+1, next, state.Why(), r.next, r.why)
				}
			}
		})
	}
}

func TestStateOfPoliciesThatAreNotChecked(t *testing.T) {
	s := &State{}
	if err := s.Err(); err != nil {
		t.Errorf("nobody checks them: %v", err)
	}
	s.Expect()
	if err := s.Err(); err == nil || err.Error() != notChecked {
		t.Errorf("before the first round: %v", err)
	}
	s.set(well)
	if err := s.Err(); err != nil {
		t.Errorf("all is well: %v", err)
	}
}
