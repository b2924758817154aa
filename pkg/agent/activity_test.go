// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestActivity(t *testing.T) {
	type step struct {
		// after is the time since the step before.
		after    time.Duration
		computed bool
		// wantActive and wantSince are what is reported: since when it has not been active, from the first step on.
		wantActive bool
		wantSince  time.Duration
	}
	const s = time.Second
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{
			name: "a pod that computes all the time is never idle, though not every reading has a sample of it",
			steps: []step{
				{0, true, true, 0}, {s / 2, false, true, 0}, {s / 2, true, true, 0}, {s / 2, false, true, 0},
				{s / 2, false, true, 0}, {s / 2, false, true, 0}, {s / 4, true, true, 0},
			},
		},
		{
			name:  "a pod that stops is idle from that moment, told once it is sure",
			steps: []step{{0, true, true, 0}, {s, true, true, 0}, {s, false, true, 0}, {s, false, false, s}, {60 * s, false, false, s}},
		},
		{
			name:  "a pod that was never seen computing is idle since it was first seen",
			steps: []step{{0, false, false, 0}, {10 * s, false, false, 0}},
		},
		{
			name:  "a pod that computes again is active at once",
			steps: []step{{0, true, true, 0}, {5 * s, false, false, 0}, {s, true, true, 0}, {5 * s, false, false, 6 * s}},
		},
		{
			name:  "a reading that comes late finds the pod active if it computed meanwhile",
			steps: []step{{0, true, true, 0}, {time.Hour, true, true, 0}},
		},
		{
			name:  "a clock that is set back makes no pod idle before its time",
			steps: []step{{0, true, true, 0}, {-time.Hour, false, true, 0}, {s, false, true, 0}, {s, false, false, -time.Hour}},
		},
		{
			name:  "a clock that is set forward makes no pod that computes idle",
			steps: []step{{0, true, true, 0}, {time.Hour, true, true, 0}, {s, true, true, 0}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tracker := newActivityTracker(2 * s)
			now := start
			for i, st := range tc.steps {
				now = now.Add(st.after)
				active, since := tracker.observe(podOnDevice{"gpu", "pod"}, st.computed, now)
				tracker.endReading()
				if active != st.wantActive || !active && !since.Equal(start.Add(st.wantSince)) {
					t.Fatalf("step %d: active %t, last at %s, want %t, %s", i, active, since.Sub(start), st.wantActive, st.wantSince)
				}
			}
		})
	}
}

func TestActivityIsTakenOverFromTheLastReport(t *testing.T) {
	tracker := newActivityTracker(2 * time.Second)
	tracker.seed(podOnDevice{"gpu", "idle"}, false, start.Add(-time.Hour))
	tracker.seed(podOnDevice{"gpu", "busy"}, true, start)
	if active, since := tracker.observe(podOnDevice{"gpu", "idle"}, false, start); active || !since.Equal(start.Add(-time.Hour)) {
		t.Errorf("the idle pod is active %t since %s", active, since)
	}
	if active, _ := tracker.observe(podOnDevice{"gpu", "busy"}, false, start.Add(time.Second)); !active {
		t.Error("the busy pod became idle by a restart of the agent")
	}
}

func TestActivityOfAPodThatLeftIsForgotten(t *testing.T) {
	tracker := newActivityTracker(2 * time.Second)
	tracker.observe(podOnDevice{"gpu", "pod"}, true, start)
	tracker.endReading()
	tracker.endReading()
	if len(tracker.pods) != 0 {
		t.Errorf("still remembered: %v", tracker.pods)
	}
}
