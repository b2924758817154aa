// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestWhomClaimsCountFor: pods of the claimant's priority and of lower ones, from when it is held.
func TestWhomClaimsCountFor(t *testing.T) {
	for _, tc := range []struct {
		name  string
		claim Claim
		query Query
		want  uint64
	}{
		{"a pod of lower priority", Claim{}, Query{Pod: "a", Priority: 9}, 20},
		{"a pod of equal priority", Claim{}, Query{Pod: "a", Priority: 10}, 20},
		{"a pod of higher priority", Claim{}, Query{Pod: "a", Priority: 11}, 80},
		{"the claimant itself", Claim{}, Query{Pod: "n", Priority: 10}, 80},
		{"a dry run in which the claimant is gone", Claim{}, Query{Pod: "a", Gone: sets.New[types.UID]("n")}, 80},
		{"before it is held", Claim{HoldsFrom: epoch.Add(time.Second)}, Query{Pod: "a"}, 80},
		{"from when it is held", Claim{HoldsFrom: epoch}, Query{Pod: "a"}, 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
			n := f.claim("n", 10, tc.claim)
			f.wantFree("by the ledger", f.view(tc.query), tc.want)
			f.wantFree("with the nominated pod added, as the framework does", f.view(tc.query, n), tc.want)
		})
	}
}

// TestEndsOfClaims: however it is learnt that a pod waits no more.
func TestEndsOfClaims(t *testing.T) {
	bound := func(node string) *corev1.Pod {
		return bt.MakePod("n").Memory("60Gi").Bound(node, epoch, "GPU-0=60Gi").Obj()
	}
	for _, tc := range []struct {
		name    string
		end     func(*fixture, *corev1.Pod)
		state   State
		free    uint64
		changed int
	}{
		{"it is deleted", func(f *fixture, n *corev1.Pod) { f.PodGone(n) }, 0, 80, 1},
		{"it terminates", func(f *fixture, _ *corev1.Pod) { f.PodSeen(bt.MakePod("n").Memory("60Gi").Terminating(epoch).Obj()) }, 0, 80, 1},
		{"it ends", func(f *fixture, _ *corev1.Pod) {
			f.PodSeen(bt.MakePod("n").Memory("60Gi").Phase(corev1.PodFailed).Obj())
		}, 0, 80, 1},
		{"it is bound here", func(f *fixture, _ *corev1.Pod) { f.PodSeen(bound(testNode)) }, Confirmed, 20, 1},
		{"it is bound elsewhere", func(f *fixture, _ *corev1.Pod) { f.PodSeen(bound("other")) }, Confirmed, 80, 1},
		{"it is bound by somebody else", func(f *fixture, _ *corev1.Pod) { f.PodSeen(bt.MakePod("n").Node("other").Obj()) }, 0, 80, 1},
		{"a binding in doubt turns out to have happened", func(f *fixture, n *corev1.Pod) {
			_ = f.Ledger.Assume(n, "other", &Allocation{})
			f.Ledger.MarkUnknown("n")
			f.PodSeen(bound("other"))
		}, Confirmed, 80, 1},
		{"a binding in doubt turns out not to have happened", func(f *fixture, n *corev1.Pod) {
			_ = f.Ledger.Assume(n, "other", &Allocation{})
			f.Ledger.MarkUnknown("n")
			f.Ledger.Refute("n")
		}, Claimed, 20, 0},
		{"a reservation is taken back", func(f *fixture, n *corev1.Pod) {
			_ = f.Ledger.Assume(n, "other", &Allocation{})
			_ = f.Ledger.Assume(n, testNode, &Allocation{})
			f.Ledger.Forget("n")
		}, Claimed, 20, 0},
		{"it is taken back", func(f *fixture, _ *corev1.Pod) { f.Ledger.Unclaim("n") }, 0, 80, 0},
		{"an update that says nothing", func(f *fixture, n *corev1.Pod) { f.PodSeen(n) }, Claimed, 20, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
			n := f.claim("n", 10, Claim{})
			f.changed = 0
			tc.end(f, n)
			f.wantState(n, tc.state)
			f.wantFree("afterwards", f.view(Query{Pod: "a"}), tc.free)
			if f.changed != tc.changed {
				t.Errorf("%d changes were told, want %d", f.changed, tc.changed)
			}
		})
	}
}

// TestClaimsMove: a pod has one claim at most, and none once it is booked.
func TestClaimsMove(t *testing.T) {
	f := newFixture(t)
	n := f.claim("n", 10, Claim{})
	if before, err := f.Ledger.Claim(n, "other", nil, Claim{}); err != nil || before.Node != testNode {
		t.Errorf("moved from %v: %v", before, err)
	}
	if on := f.Ledger.ClaimsOn(testNode); len(on) != 0 {
		t.Errorf("%d claims are left", len(on))
	}
	if e := f.Ledger.ClaimOf("n"); e == nil || !e.IsLost() {
		t.Error("a claim without devices is not lost")
	}
	f.PodSeen(bt.MakePod("n").Memory("60Gi").Bound(testNode, epoch, "GPU-0=60Gi").Obj())
	if _, err := f.Ledger.Claim(n, testNode, []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(60)}}, Claim{}); err == nil {
		t.Error("a bound pod claims something")
	}
	f.Ledger.EachClaim(func(e *Entry) { t.Errorf("there is still a claim of %s", e.Name) })
}

// TestReadyWhenFirstSeenBound: after a watch that broke, an assumed pod may be Ready when it is first seen bound. Those
// that waited for it to load are woken.
func TestReadyWhenFirstSeenBound(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	f.assume(bt.MakePod("a").Memory("30Gi"), "GPU-0=30Gi")
	f.changed = 0
	f.PodSeen(bt.MakePod("a").Memory("30Gi").Bound(testNode, epoch, "GPU-0=30Gi").Started(epoch).Ready(epoch).Obj())
	if f.changed != 1 {
		t.Errorf("%d changes were told, want 1", f.changed)
	}
}

// TestProtectedUntil is about min-runtime: from the first readiness, or from when it should have come, and capped.
func TestProtectedUntil(t *testing.T) {
	const load, most = 15 * time.Minute, time.Hour
	started := func() *bt.Pod {
		return bt.MakePod("a").Memory("1Gi").Annotation("min-runtime", "10m").Bound(testNode, epoch, "GPU-0=1Gi").Started(epoch.Add(time.Minute))
	}
	for _, tc := range []struct {
		name string
		seen []*bt.Pod
		want time.Duration
	}{
		{"without min-runtime", []*bt.Pod{bt.MakePod("a").Memory("1Gi").Bound(testNode, epoch, "GPU-0=1Gi").Started(epoch)}, -1},
		{"Ready", []*bt.Pod{started().Ready(epoch.Add(5 * time.Minute))}, 15 * time.Minute},
		{"Ready, not, and again: it starts nothing anew", []*bt.Pod{
			started().Ready(epoch.Add(5 * time.Minute)), started().NotReady(epoch.Add(6 * time.Minute)), started().Ready(epoch.Add(9 * time.Minute)),
		}, 15 * time.Minute},
		{"never Ready: after its time to load", []*bt.Pod{started()}, 26 * time.Minute},
		{"Ready late, as after a restart of the scheduler: likewise", []*bt.Pod{started().Ready(epoch.Add(40 * time.Minute))}, 26 * time.Minute},
		{"never started: from the bind", []*bt.Pod{bt.MakePod("a").Memory("1Gi").Annotation("min-runtime", "10m").Bound(testNode, epoch, "GPU-0=1Gi")}, 25 * time.Minute},
		{"longer than the cap", []*bt.Pod{started().Annotation("min-runtime", "5h").Ready(epoch.Add(2 * time.Minute))}, 61 * time.Minute},
		{"longer than the cap, never Ready", []*bt.Pod{started().Annotation("min-runtime", "5h")}, 61 * time.Minute},
		{"a crash loop", []*bt.Pod{started(), started().Restarted(epoch.Add(900*time.Minute), 900)}, 26 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			for _, p := range tc.seen {
				f.PodSeen(p.Obj())
			}
			want := time.Time{}
			if tc.want >= 0 {
				want = epoch.Add(tc.want)
			}
			if got := f.Ledger.Get("a").ProtectedUntil(load, most); !got.Equal(want) {
				t.Errorf("protected until %v, want %v", got, want)
			}
		})
	}
}

// TestClaimOfAGPUThatIsCut counts on each of its instances, until its pod has claimed another device.
func TestClaimOfAGPUThatIsCut(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
	f.claim("n", 10, Claim{}) // 60Gi of GPU-0
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi").Instance("MIG-0", "GPU-0", "70Gi").Instance("MIG-1", "GPU-0", "5Gi"))
	f.wantFree("for another", f.view(Query{Pod: "a"}), 0, 80, 10, 0)
}
