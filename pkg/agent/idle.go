// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// idleTracker counts for how long each pod has been measured to compute nothing. It follows the states that are reported, so that
// it says idle when the report does, and counts by the clock of this process alone: what pods did while no agent looked is not
// known, so a new process begins at 0. One tracker serves one node; it is not safe for concurrent use.
type idleTracker struct {
	// at is when the reading before was made.
	at   time.Time
	pods map[types.UID]*podActivity
}

// podActivity is what a reading says of a pod on all its devices together.
type podActivity struct {
	// computes says that it does so on some device, and unmeasured that nobody can tell of some device.
	computes, unmeasured bool
	// devices are those that it is on, and those that it was on when their processes could last be listed.
	devices []string
	// since is when it was first seen idle; zero if it is not.
	since time.Time
}

func newIdleTracker() *idleTracker { return &idleTracker{pods: map[types.UID]*podActivity{}} }

// observe takes the report of one reading, and the devices whose processes it could not list. It returns for how long each pod
// has been idle: 0 for one that computes, and nothing for one whose activity is not measured on each of its devices.
func (t *idleTracker) observe(s *berthv1alpha1.GPUNodeStatus, unlisted map[string]bool, now time.Time) map[types.UID]time.Duration {
	pods := map[types.UID]*podActivity{}
	of := func(uid types.UID, device string) *podActivity {
		p := pods[uid]
		if p == nil {
			p = &podActivity{}
			pods[uid] = p
		}
		p.devices = append(p.devices, device)
		return p
	}
	for i := range s.Devices {
		d := &s.Devices[i]
		for j := range d.Processes {
			process := &d.Processes[j]
			if process.PodUID == "" {
				continue
			}
			p := of(process.PodUID, d.UUID)
			p.computes = p.computes || process.Active
			p.unmeasured = p.unmeasured || !process.Active && process.LastActiveTime == nil
		}
	}
	for uid, before := range t.pods {
		for _, device := range before.devices {
			if unlisted[device] {
				of(uid, device).unmeasured = true
			}
		}
	}
	// Samples of the driver tell what pods did between two readings, but not for how long back.
	gap := now.Sub(t.at)
	continued := gap >= 0 && gap <= stuckAfter
	idle := make(map[types.UID]time.Duration, len(pods))
	for uid, p := range pods {
		switch before := t.pods[uid]; {
		case p.computes:
			idle[uid] = 0
			continue
		case p.unmeasured:
			continue
		case continued && before != nil && !before.since.IsZero():
			p.since = before.since
		default:
			p.since = now
		}
		idle[uid] = now.Sub(p.since)
	}
	t.at, t.pods = now, pods
	return idle
}
