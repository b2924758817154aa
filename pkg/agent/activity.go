// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// activityTracker turns what a reading says ("it computed since the reading before") into the state that is
// reported: active, or since when not. One tracker serves one node; it is not safe for concurrent use.
type activityTracker struct {
	// hold is how long a pod stays active after the last sign of it: longer than the driver takes between two
	// samples, so that a pod that computes all the time is never reported idle between them.
	hold time.Duration
	pods map[podOnDevice]*activityState
}

type podOnDevice struct {
	device string
	pod    types.UID
}

type activityState struct {
	// lastActive is when it was last seen computing; when it was first seen, if it was never seen computing.
	lastActive time.Time
	active     bool
	// listed is whether the current reading has it.
	listed bool
}

func newActivityTracker(hold time.Duration) *activityTracker {
	return &activityTracker{hold: hold, pods: map[podOnDevice]*activityState{}}
}

// seed takes what an earlier process of this agent reported, so that a restart neither makes an idle pod busy nor
// lets a busy one look idle.
func (t *activityTracker) seed(k podOnDevice, active bool, lastActive time.Time) {
	t.pods[k] = &activityState{active: active, lastActive: lastActive, listed: true}
}

// observe takes one reading of one pod on one device, and returns whether it is active and, if it is not, when it
// was last. A pod whose activity was not measured until now counts as active at this moment, not as idle since ever.
func (t *activityTracker) observe(k podOnDevice, computed bool, now time.Time) (active bool, lastActive time.Time) {
	s := t.pods[k]
	if s == nil {
		s = &activityState{lastActive: now}
		t.pods[k] = s
	}
	s.listed = true
	switch {
	case computed:
		s.active, s.lastActive = true, now
	case now.Before(s.lastActive):
		// The clock was set back. Idle time counts from here, and cannot be negative.
		s.lastActive = now
	case now.Sub(s.lastActive) >= t.hold:
		s.active = false
	}
	return s.active, s.lastActive
}

// endReading forgets the pods that the reading did not have.
func (t *activityTracker) endReading() {
	for k, s := range t.pods {
		if !s.listed {
			delete(t.pods, k)
			continue
		}
		s.listed = false
	}
}
