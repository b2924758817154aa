// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// Store holds the newest report of every node and when each node's agent was last heard of. It is safe for
// concurrent use; readers take a Snapshot, which costs next to nothing and never changes.
type Store struct {
	headroom alloc.Bytes
	clock    clock.PassiveClock
	// start is when the store was made, by this process's monotonic clock.
	start time.Time

	mu sync.Mutex
	// position is where each node's slot is; it is copied when nodes come or go, never changed.
	position map[string]int
	chunks   []*chunk
	free     []int
	// sharedPosition and sharedChunks say that a snapshot holds the map, or the slice of chunks, so that the next
	// change must copy it.
	sharedPosition, sharedChunks bool
	// states is what is kept of each node beside its report.
	states map[string]*nodeState
	// unreadable are nodes whose report could not be decoded, so that they have none; it is copied, never changed.
	unreadable map[string]bool
	// reporters says which nodes name a GPU.
	reporters reporters
}

// nodeState is shared by all snapshots.
type nodeState struct {
	// heardAt is when the node's agent was last heard of, as the time since the store was made; never = never. It is
	// kept apart from the report because leases are renewed for nodes whose report does not change. A renewal that
	// arrives during a cycle can only make a node fresher.
	heardAt atomic.Int64
}

const never = math.MinInt64

// longAgo is longer than any staleAfter, and short enough to be subtracted.
const longAgo = 10 * 365 * 24 * time.Hour

const chunkSize = 64

// chunk is a fixed part of the slots, so that one changed report copies 64 pointers, not one for each node.
type chunk struct {
	reports [chunkSize]*nodeSlot
	shared  bool
}

// nodeSlot is one report of a node. A newer report has a slot of its own.
type nodeSlot struct {
	report *Report
	state  *nodeState
	// memos are the last views that were derived from the report.
	memos [memoKinds]atomic.Pointer[remembered]
}

// NewStore returns an empty store. headroom is kept free on every device, beside what the driver reserves.
func NewStore(headroom alloc.Bytes, c clock.PassiveClock) *Store {
	return &Store{headroom: headroom, clock: c, start: c.Now(), position: map[string]int{}, states: map[string]*nodeState{}, reporters: reporters{}}
}

// Apply takes a report. live says that it was just written, as opposed to found when the process started: only a
// live report proves that the agent is alive. It returns the report before it (nil if there was none), the new one, and
// the other nodes that have come to share a GPU with it, or share one no more.
func (s *Store) Apply(gn *berthv1alpha1.GPUNode, live bool) (before, after *Report, concerned []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	i, ok := s.position[gn.Name]
	if !ok {
		i = s.newPosition(gn.Name)
	}
	if old := s.chunks[i/chunkSize].reports[i%chunkSize]; old != nil {
		before = old.report
	}
	s.setUnreadable(gn.Name, false)
	state := s.stateOf(gn.Name)
	if live {
		state.hear(now.Sub(s.start))
	}
	after = newReport(gn, s.headroom, before, now)
	concerned = s.reportChanged(gn.Name, before, after)
	s.writable(i).reports[i%chunkSize] = &nodeSlot{report: after, state: state}
	return before, after, concerned
}

// Remove forgets a node's report, which is then as if there never was one. It returns the nodes that shared a GPU with it.
func (s *Store) Remove(node string) (concerned []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setUnreadable(node, false)
	return s.remove(node)
}

// RemoveUnreadable forgets a node's report, because a newer one cannot be decoded; it returns what Remove does.
func (s *Store) RemoveUnreadable(node string) (concerned []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setUnreadable(node, true)
	return s.remove(node)
}

func (s *Store) setUnreadable(node string, unreadable bool) {
	if s.unreadable[node] == unreadable {
		return
	}
	copied := maps.Clone(s.unreadable)
	if copied == nil {
		copied = map[string]bool{}
	}
	if unreadable {
		copied[node] = true
	} else {
		delete(copied, node)
	}
	s.unreadable = copied
}

func (s *Store) remove(node string) (concerned []string) {
	i, ok := s.position[node]
	if !ok {
		return nil
	}
	concerned = s.reportChanged(node, s.chunks[i/chunkSize].reports[i%chunkSize].report, nil)
	s.writable(i).reports[i%chunkSize] = nil
	s.ownPosition()
	delete(s.position, node)
	s.free = append(s.free, i)
	delete(s.states, node) // a new report is heard of anew
	return concerned
}

// dropState forgets when an agent was heard of whose node has no report.
func (s *Store) dropState(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.position[node]; !ok {
		delete(s.states, node)
	}
}

// Renew takes a renewal of the agent's Lease: live if it was seen to happen, else from renewTime, the agent's own
// clock, which is believed only at start. It returns whether the node had not been heard of for longer than staleAfter
// (zero = never stale).
func (s *Store) Renew(node string, renewTime time.Time, live bool, staleAfter time.Duration) (wasStale bool) {
	s.mu.Lock()
	state := s.stateOf(node)
	s.mu.Unlock()
	now := s.clock.Now()
	wasStale = state.stale(now.Sub(s.start), staleAfter)
	if live {
		state.hear(now.Sub(s.start))
	} else if age := now.Sub(renewTime); age >= 0 {
		state.hear(now.Sub(s.start) - min(age, longAgo))
	}
	return wasStale
}

// Report returns the newest report of a node and whether its agent is fresh; nil if there is none. It is for those who
// need one node: a Snapshot would make the next change copy.
func (s *Store) Report(node string, staleAfter time.Duration) (r *Report, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.position[node]
	if !ok {
		return nil, false
	}
	slot := s.chunks[i/chunkSize].reports[i%chunkSize]
	return slot.report, !slot.state.stale(s.clock.Now().Sub(s.start), staleAfter)
}

// Snapshot returns the reports as they are now.
func (s *Store) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sharedChunks {
		for _, c := range s.chunks {
			c.shared = true
		}
	}
	s.sharedPosition, s.sharedChunks = true, true
	now := s.clock.Now()
	return &Snapshot{position: s.position, chunks: s.chunks, unreadable: s.unreadable, now: now, sinceStart: now.Sub(s.start)}
}

func (s *Store) stateOf(node string) *nodeState {
	state := s.states[node]
	if state == nil {
		state = &nodeState{}
		state.heardAt.Store(never)
		s.states[node] = state
	}
	return state
}

func (s *Store) newPosition(node string) int {
	s.ownPosition()
	var i int
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
	} else {
		i = len(s.position)
		if i/chunkSize == len(s.chunks) {
			s.ownChunks()
			s.chunks = append(s.chunks, &chunk{})
		}
	}
	s.position[node] = i
	return i
}

// writable returns the chunk of slot i, copied if a snapshot holds it.
func (s *Store) writable(i int) *chunk {
	c := s.chunks[i/chunkSize]
	if !c.shared {
		return c
	}
	s.ownChunks()
	c = &chunk{reports: c.reports}
	s.chunks[i/chunkSize] = c
	return c
}

func (s *Store) ownChunks() {
	if s.sharedChunks {
		s.chunks = slices.Clone(s.chunks)
		s.sharedChunks = false
	}
}

func (s *Store) ownPosition() {
	if s.sharedPosition {
		s.position = maps.Clone(s.position)
		s.sharedPosition = false
	}
}

// hear notes that the agent was heard of at a moment, unless it was later already.
func (n *nodeState) hear(sinceStart time.Duration) {
	for {
		old := n.heardAt.Load()
		if old >= int64(sinceStart) || n.heardAt.CompareAndSwap(old, int64(sinceStart)) {
			return
		}
	}
}

func (n *nodeState) stale(sinceStart, staleAfter time.Duration) bool {
	if staleAfter == 0 {
		return false
	}
	at := n.heardAt.Load()
	return at == never || int64(sinceStart)-at > int64(staleAfter)
}

// Snapshot is the reports of all nodes at one moment. It is immutable and safe for concurrent use.
type Snapshot struct {
	position map[string]int
	chunks   []*chunk
	// unreadable are nodes without a report because it could not be decoded.
	unreadable map[string]bool
	now        time.Time
	// sinceStart is now as the time since the store was made.
	sinceStart time.Duration
}

// Now is when the snapshot was taken, by the store's clock.
func (s *Snapshot) Now() time.Time { return s.now }

// Report returns the report of a node and whether its agent is fresh; nil if there is none.
func (s *Snapshot) Report(node string, staleAfter time.Duration) (r *Report, fresh bool) {
	slot := s.slot(node)
	if slot == nil {
		return nil, false
	}
	return slot.report, !slot.state.stale(s.sinceStart, staleAfter)
}

// IsUnreadable says whether a node has no report because it could not be decoded.
func (s *Snapshot) IsUnreadable(node string) bool { return s.unreadable[node] }

// Len returns the number of nodes with a report.
func (s *Snapshot) Len() int { return len(s.position) }

func (s *Snapshot) slot(node string) *nodeSlot {
	i, ok := s.position[node]
	if !ok {
		return nil
	}
	return s.chunks[i/chunkSize].reports[i%chunkSize]
}

// heard returns when a node's agent last said that its report is true: it wrote it, or renewed its Lease.
func (s *Snapshot) heard(node string) time.Time {
	slot := s.slot(node)
	if slot == nil {
		return time.Time{}
	}
	heard := slot.report.receivedAt
	if at := slot.state.heardAt.Load(); at != never {
		if renewed := s.now.Add(time.Duration(at) - s.sinceStart); renewed.After(heard) {
			heard = renewed
		}
	}
	return heard
}
