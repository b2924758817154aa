// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testclock "k8s.io/utils/clock/testing"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestOverbooked: two GPUs of 80Gi, with 1Gi of headroom each.
func TestOverbooked(t *testing.T) {
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for _, tc := range []struct {
		name    string
		pods    []*bt.Pod
		devices int
		surplus []string
	}{
		{"nothing is booked", nil, 0, nil},
		{"it fits", []*bt.Pod{
			bt.MakePod("a").Memory("40Gi").Bound("n", at(1), "GPU-0=40Gi"), bt.MakePod("b").Memory("40Gi").Bound("n", at(2), "GPU-0=39Gi"),
		}, 0, nil},
		{"the headroom alone is used up: an admin raised it", []*bt.Pod{
			bt.MakePod("a").Memory("80Gi").Bound("n", at(1), "GPU-0=80Gi"),
		}, 0, nil},
		{"the later of two", []*bt.Pod{
			bt.MakePod("b").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi"), bt.MakePod("a").Memory("45Gi").Bound("n", at(2), "GPU-0=45Gi"),
		}, 1, []string{"a on GPU-0: 90Gi of 80Gi, ready false"}},
		{"bound in the same second: the one that is Ready stays", []*bt.Pod{
			bt.MakePod("a").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi"), bt.MakePod("b").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi").Ready(at(3)),
		}, 1, []string{"a on GPU-0: 90Gi of 80Gi, ready false"}},
		{"the later one is Ready", []*bt.Pod{
			bt.MakePod("a").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi"), bt.MakePod("b").Memory("45Gi").Bound("n", at(2), "GPU-0=45Gi").Ready(at(3)),
		}, 1, []string{"b on GPU-0: 90Gi of 80Gi, ready true"}},
		{"one that does not fit leaves room for a later one that does", []*bt.Pod{
			bt.MakePod("a").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi"), bt.MakePod("b").Memory("45Gi").Bound("n", at(2), "GPU-0=45Gi"),
			bt.MakePod("c").Memory("30Gi").Bound("n", at(3), "GPU-0=30Gi"),
		}, 1, []string{"b on GPU-0: 120Gi of 80Gi, ready false"}},
		{"two GPUs, one pod on both", []*bt.Pod{
			bt.MakePod("a").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi"), bt.MakePod("b").Memory("45Gi").Bound("n", at(1), "GPU-1=45Gi"),
			bt.MakePod("c").Memory("90Gi").Bound("n", at(2), "GPU-0=45Gi", "GPU-1=45Gi"),
		}, 2, []string{"c on GPU-0: 90Gi of 80Gi, ready false"}},
		{"the earlier one terminates", []*bt.Pod{
			bt.MakePod("a").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi").Terminating(at(2)), bt.MakePod("b").Memory("45Gi").Bound("n", at(2), "GPU-0=45Gi"),
		}, 0, nil},
		{"what an unknown version booked is not known", []*bt.Pod{
			bt.MakePod("a").Memory("45Gi").Bound("n", at(1)).Allocation(`{"version":2,"devices":[{"uuid":"GPU-0"}]}`),
			bt.MakePod("b").Memory("45Gi").Bound("n", at(2), "GPU-0=45Gi"),
		}, 0, nil},
		{"a device that is not reported", []*bt.Pod{
			bt.MakePod("a").Memory("45Gi").Bound("n", at(1), "GPU-9=45Gi"), bt.MakePod("b").Memory("45Gi").Bound("n", at(2), "GPU-9=45Gi"),
		}, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tracker := NewTracker(alloc.GiB(1), Policy{}, testclock.NewFakePassiveClock(epoch))
			tracker.ReportSeen(bt.MakeGPUNodeOf("n", 2, "80Gi").Obj(), true)
			for _, p := range tc.pods {
				tracker.PodSeen(p.Obj())
			}
			devices, surplus := tracker.Overbooked("n")
			var got []string
			for _, s := range surplus {
				got = append(got, fmt.Sprintf("%s on %s: %s of %s, ready %v", s.Pod.Name, s.Device.UUID, s.Booked, s.Usable, s.Ready))
			}
			if diff := cmp.Diff(tc.surplus, got); diff != "" || devices != tc.devices {
				t.Errorf("%d devices, want %d; surplus (-want +got):\n%s", devices, tc.devices, diff)
			}
		})
	}
	for name, report := range map[string]*bt.GPUNode{
		"a device that tells no size":  bt.MakeGPUNode("n").GPU("GPU-0", "0"),
		"a device that is not healthy": bt.MakeGPUNode("n").GPU("GPU-0", "1Gi").Unhealthy(),
	} {
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker(alloc.GiB(1), Policy{}, testclock.NewFakePassiveClock(epoch))
			tracker.ReportSeen(report.Obj(), true)
			tracker.PodSeen(bt.MakePod("a").Memory("45Gi").Bound("n", at(1), "GPU-0=45Gi").Obj())
			if devices, surplus := tracker.Overbooked("n"); devices != 0 || surplus != nil {
				t.Errorf("%d devices, %v", devices, surplus)
			}
		})
	}
	t.Run("a node without a report", func(t *testing.T) {
		tracker := NewTracker(alloc.GiB(1), Policy{}, testclock.NewFakePassiveClock(epoch))
		if devices, surplus := tracker.Overbooked("n"); devices != 0 || surplus != nil {
			t.Errorf("%d devices, %v", devices, surplus)
		}
	})
}
