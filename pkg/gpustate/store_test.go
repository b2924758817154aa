// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"fmt"
	"sync"
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// TestSnapshotsNeverChange: whatever is applied and removed, every snapshot keeps showing what was reported when it
// was taken. A report is told from another by its number of devices.
func TestSnapshotsNeverChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewStore(alloc.Bytes{}, testclock.NewFakeClock(epoch))
		type taken struct {
			snapshot *Snapshot
			want     map[string]int
		}
		now := map[string]int{}
		var all []taken
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			node := fmt.Sprintf("node-%d", rapid.IntRange(0, 2*chunkSize+1).Draw(t, "node"))
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				n := rapid.IntRange(1, 8).Draw(t, "devices")
				s.Apply(bt.MakeGPUNodeOf(node, n, "80Gi").Obj(), true)
				now[node] = n
			case 2:
				s.Remove(node)
				delete(now, node)
			case 3:
				want := map[string]int{}
				for k, v := range now {
					want[k] = v
				}
				all = append(all, taken{s.Snapshot(), want})
			}
		}
		all = append(all, taken{s.Snapshot(), now})
		for i, taken := range all {
			if got := taken.snapshot.Len(); got != len(taken.want) {
				t.Fatalf("snapshot %d has %d nodes, want %d", i, got, len(taken.want))
			}
			for node, n := range taken.want {
				if r, _ := taken.snapshot.Report(node, 0); r == nil || r.Node != node || len(r.Devices) != n {
					t.Fatalf("snapshot %d: report of %s is %+v, want %d devices", i, node, r, n)
				}
			}
		}
		for node, n := range now {
			if r, _ := s.Report(node, 0); r == nil || len(r.Devices) != n {
				t.Fatalf("the store's report of %s is %+v, want %d devices", node, r, n)
			}
		}
	})
}

// TestSnapshotsUnderConcurrentWrites is for the race detector.
func TestSnapshotsUnderConcurrentWrites(t *testing.T) {
	s := NewStore(alloc.Bytes{}, testclock.NewFakeClock(epoch))
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 300 {
				node := fmt.Sprintf("node-%d", (i*7+w)%100)
				s.Apply(bt.MakeGPUNodeOf(node, 1+i%4, "80Gi").Obj(), true)
				if i%5 == 0 {
					s.Remove(node)
				}
				s.Renew(node, epoch, true, time.Minute)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 100 {
				snapshot := s.Snapshot()
				devices := func() (n int) {
					for i := range 100 {
						if r, fresh := snapshot.Report(fmt.Sprintf("node-%d", i), time.Minute); r != nil {
							n += len(r.Devices)
							if !fresh {
								t.Errorf("the report of %s is stale", r.Node)
							}
						}
					}
					return n
				}
				if first, again := devices(), devices(); first != again {
					t.Errorf("one snapshot showed %d devices, then %d", first, again)
				}
			}
		})
	}
	wg.Wait()
}

func TestFreshness(t *testing.T) {
	const limit = time.Minute
	live, found := true, false
	for _, tc := range []struct {
		name string
		do   func(*Store, *testclock.FakeClock)
		want bool
	}{
		{"a live report is fresh", func(s *Store, _ *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), live)
		}, true},
		{"a report that was found at start proves nothing", func(s *Store, _ *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), found)
		}, false},
		{"found at start, with a Lease renewed within the limit by the agent's clock", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), found)
			s.Renew("node", c.Now().Add(-50*time.Second), found, limit)
		}, true},
		{"the Lease told before the report", func(s *Store, c *testclock.FakeClock) {
			s.Renew("node", c.Now(), found, limit)
			s.Apply(bt.MakeGPUNode("node").Obj(), found)
		}, true},
		{"found at start, with a Lease renewed too long ago", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), found)
			s.Renew("node", c.Now().Add(-61*time.Second), found, limit)
		}, false},
		{"found at start, with a Lease from the future, whose clock cannot be believed", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), found)
			s.Renew("node", c.Now().Add(time.Hour), found, limit)
		}, false},
		{"found at start, with a Lease that was never renewed", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), found)
			s.Renew("node", time.Time{}, found, limit)
			c.Step(time.Second)
		}, false},
		{"silent for exactly the limit", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), live)
			c.Step(limit)
		}, true},
		{"silent for longer than the limit", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), live)
			c.Step(limit + time.Second)
		}, false},
		{"a renewal that was seen makes it fresh, whatever the agent's clock says", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), live)
			c.Step(2 * limit)
			s.Renew("node", c.Now().Add(-24*time.Hour), live, limit)
		}, true},
		{"an old Lease found late does not make it older", func(s *Store, c *testclock.FakeClock) {
			s.Apply(bt.MakeGPUNode("node").Obj(), live)
			s.Renew("node", c.Now().Add(-24*time.Hour), found, limit)
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := testclock.NewFakeClock(epoch)
			s := NewStore(alloc.Bytes{}, c)
			tc.do(s, c)
			r, fresh := s.Snapshot().Report("node", limit)
			if r == nil || fresh != tc.want {
				t.Errorf("report %v, fresh %v, want %v", r, fresh, tc.want)
			}
			if _, fresh := s.Report("node", limit); fresh != tc.want {
				t.Errorf("asked directly: fresh %v, want %v", fresh, tc.want)
			}
			if _, fresh := s.Snapshot().Report("node", 0); !fresh {
				t.Error("stale although staleness is switched off")
			}
		})
	}
}

func TestRenewTellsOfAnAgentThatIsBack(t *testing.T) {
	c := testclock.NewFakeClock(epoch)
	s := NewStore(alloc.Bytes{}, c)
	s.Apply(bt.MakeGPUNode("node").Obj(), true)
	if s.Renew("node", epoch, true, time.Minute) {
		t.Error("a fresh node was stale")
	}
	c.Step(2 * time.Minute)
	if !s.Renew("node", epoch, true, time.Minute) {
		t.Error("a silent node was not stale")
	}
}

func TestRemovedReportIsAsIfItNeverWas(t *testing.T) {
	c := testclock.NewFakeClock(epoch)
	s := NewStore(alloc.Bytes{}, c)
	s.Remove("node")
	s.Apply(bt.MakeGPUNodeOf("node", 2, "80Gi").Obj(), true)
	s.Remove("node")
	s.Remove("node")
	if r, _ := s.Snapshot().Report("node", 0); r != nil || s.Snapshot().Len() != 0 {
		t.Errorf("the removed report: %+v, %d nodes", r, s.Snapshot().Len())
	}
	s.Apply(bt.MakeGPUNodeOf("other", 3, "80Gi").Obj(), true)
	if r, _ := s.Report("node", 0); r != nil {
		t.Errorf("another node in its slot is taken for it: %+v", r)
	}
}
