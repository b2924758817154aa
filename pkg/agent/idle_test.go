// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

func TestIdleTime(t *testing.T) {
	const s = time.Second
	// A reading is of two GPUs; the pod has a process on the first, and one on the second where that is not nil.
	type step struct {
		after         time.Duration
		first, second *Process
		change        func(first, second *Device)
		// want is the idle time; nil if there must be none.
		want *time.Duration
	}
	computes, idle, unknown := &Process{Active: true}, &Process{}, &Process{ActivityUnknown: true}
	secs := func(d time.Duration) *time.Duration { return &d }
	lost := func(_, second *Device) { second.ProcessesUnknown = true }
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{
			name: "a pod that computes has been idle for no time, and counts from when it is no longer reported as active",
			steps: []step{
				{first: computes, want: secs(0)}, {after: s, first: idle, want: secs(0)}, {after: s, first: idle, want: secs(0)},
				{after: s, first: idle, want: secs(s)}, {after: 9 * s, first: idle, want: secs(10 * s)}, {after: s, first: computes, want: secs(0)},
			},
		},
		{
			name:  "a pod that was never seen computing is idle from when it was first seen",
			steps: []step{{first: idle, want: secs(0)}, {after: 5 * s, first: idle, want: secs(5 * s)}},
		},
		{
			name:  "a pod that computes on one GPU is not idle",
			steps: []step{{first: idle, second: computes, want: secs(0)}, {after: 5 * s, first: idle, second: computes, want: secs(0)}},
		},
		{
			name:  "a pod is idle when it is on all its GPUs",
			steps: []step{{first: idle, second: idle, want: secs(0)}, {after: 5 * s, first: idle, second: idle, want: secs(5 * s)}},
		},
		{
			name:  "what is not measured is not idle",
			steps: []step{{first: unknown}, {after: 5 * s, first: unknown}},
		},
		{
			name:  "what is not measured on one of two GPUs is not idle",
			steps: []step{{first: idle, second: unknown}, {after: 5 * s, first: idle, second: unknown}},
		},
		{
			name: "what cannot be measured for a while is idle from when it can",
			steps: []step{
				{first: idle, want: secs(0)}, {after: 5 * s, first: unknown}, {after: 5 * s, first: idle, want: secs(0)},
				{after: 5 * s, first: idle, want: secs(5 * s)},
			},
		},
		{
			name: "a GPU that does not measure activity (MIG) makes no pod idle",
			steps: []step{{first: idle, second: idle, change: func(_, second *Device) {
				second.ActivityMeasured = false
			}}},
		},
		{
			name: "a pod on a GPU whose processes cannot be listed any more is not idle, though it is on its other GPU",
			steps: []step{
				{first: idle, second: computes, want: secs(0)}, {after: 5 * s, first: idle, change: lost}, {after: 5 * s, first: idle, change: lost},
				{after: 5 * s, first: idle, want: secs(0)}, {after: 5 * s, first: idle, want: secs(5 * s)},
			},
		},
		{
			name:  "a pod that was never on the GPU that is lost is idle",
			steps: []step{{first: idle, want: secs(0)}, {after: 5 * s, first: idle, change: lost, want: secs(5 * s)}},
		},
		{
			name:  "a pod that left one GPU in order is idle when it is on the other",
			steps: []step{{first: idle, second: idle, want: secs(0)}, {after: 5 * s, first: idle, want: secs(5 * s)}},
		},
		{
			name: "time in which nobody looked does not count",
			steps: []step{
				{first: idle, want: secs(0)}, {after: stuckAfter, first: idle, want: secs(stuckAfter)},
				{after: stuckAfter + s, first: idle, want: secs(0)}, {after: s, first: idle, want: secs(s)},
			},
		},
		{
			name:  "a clock that is set back makes no negative time",
			steps: []step{{first: idle, want: secs(0)}, {after: -time.Hour, first: idle, want: secs(0)}, {after: s, first: idle, want: secs(s)}},
		},
		{
			name:  "a pod that is gone is idle no longer",
			steps: []step{{first: idle, want: secs(0)}, {after: 5 * s}, {after: s, first: idle, want: secs(0)}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			activity, tracker := newActivityTracker(DefaultActivityHold), newIdleTracker()
			now := start
			for i, st := range tc.steps {
				now = now.Add(st.after)
				first, second := gpu(0), gpu(1)
				for pid, on := range map[int]*Device{1: &first, 2: &second} {
					if p := map[int]*Process{1: st.first, 2: st.second}[pid]; p != nil {
						on.Processes = []Process{{PID: pid, Memory: gib, Active: p.Active, ActivityUnknown: p.ActivityUnknown}}
					}
				}
				if st.change != nil {
					st.change(&first, &second)
				}
				r := &Reading{Devices: []Device{first, second}}
				status := newStatus(r, &owners{pods: map[int]types.UID{1: "pod", 2: "pod"}}, activity, now)
				want := map[types.UID]time.Duration{}
				if st.want != nil {
					want["pod"] = *st.want
				}
				if diff := cmp.Diff(want, tracker.observe(status, r.unlisted(), now)); diff != "" {
					t.Fatalf("step %d: idle times (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// While nobody can read the devices, no pod is idle, though the report keeps what was last seen.
func TestNoPodIsIdleWhileTheDriverIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) {
			o.Attributor = fakeAttributor{1: "pod"}
			d := gpu(0)
			d.Processes = []Process{{PID: 1, Memory: gib}}
			o.Reader.(*fakeReader).reading.Devices = []Device{d}
		})
		idle := func() (time.Duration, bool) {
			_, idle := r.newestWithIdle()
			d, measured := idle["pod"]
			return d, measured
		}
		wait(20 * time.Second)
		if d, measured := idle(); !measured || d < 19*time.Second {
			t.Errorf("idle for %s, %t, after 20 s", d, measured)
		}
		r.reader.change(func() { r.reader.err = errDown })
		wait(20 * time.Second)
		if d, measured := idle(); measured {
			t.Errorf("idle for %s without a driver", d)
		}
		r.reader.change(func() { r.reader.err = nil })
		wait(5 * time.Second)
		if d, measured := idle(); !measured || d > 5*time.Second {
			t.Errorf("idle for %s, %t, 5 s after the driver is back", d, measured)
		}
		hang := make(chan struct{})
		r.reader.change(func() { r.reader.hang = hang })
		wait(2 * stuckAfter)
		if d, measured := idle(); measured {
			t.Errorf("idle for %s while the driver hangs", d)
		}
		r.reader.change(func() { r.reader.hang = nil })
		close(hang)
	})
}
