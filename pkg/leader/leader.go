// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Margin is what must be left of a lease beyond what a request may take: for clocks that do not run alike, and for the
// time from the check to the first byte on the wire.
const Margin = time.Second

// ErrNotLeading is why a request was not sent: this process does not lead, or cannot be sure that it will to the end of
// the request. errors.Is finds it in what Begin returns.
var ErrNotLeading = errors.New("this scheduler is not sure to be the leader")

// Leader is whether this process leads. It is safe for concurrent use.
type Leader struct {
	now func() instant

	mu sync.Mutex
	// alone says that there is no leader election.
	alone    bool
	identity string
	elected  chan struct{}
	// renewed is before the last successful renewal was sent, and lease is how long others respect it; zero = not held.
	renewed instant
	lease   time.Duration
	// over says why this process will never lead again; nil while it may.
	over error
	// tookOver says that this process took the lease from one that did not give it up.
	tookOver bool
	// under counts the admitted requests that have not ended; idle is closed while there are none.
	under int
	idle  chan struct{}
}

// New returns a leader that does not lead until Alone is called, or a lock that Guard returned is acquired.
func New() *Leader {
	l := &Leader{now: realTime(), elected: make(chan struct{}), idle: make(chan struct{})}
	close(l.idle)
	return l
}

// Alone says that there is no leader election: this process always leads.
func (l *Leader) Alone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alone = true
	l.elect()
}

// elect tells those who wait for the election, once.
func (l *Leader) elect() {
	select {
	case <-l.elected:
	default:
		close(l.elected)
	}
}

// Elected is closed once this process has become the leader. It stays closed when it no longer is.
func (l *Leader) Elected() <-chan struct{} { return l.elected }

// Identity is the name of this process in the lease; empty without leader election.
func (l *Leader) Identity() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.identity
}

// TookOver says whether, when this process became the leader, another may still have believed that it leads: the lease
// had expired, or was deleted, rather than given up.
func (l *Leader) TookOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tookOver
}

// Leading says whether this process is the leader now.
func (l *Leader) Leading() bool { return l.Holds(0) == nil }

// Holds returns nil if this process is sure to lead for d from now on; else an ErrNotLeading that says why it is not.
func (l *Leader) Holds(d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds(d)
}

func (l *Leader) holds(d time.Duration) error {
	switch {
	case l.over != nil:
		return fmt.Errorf("%w: %w", ErrNotLeading, l.over)
	case l.alone:
		return nil
	case l.lease == 0:
		return fmt.Errorf("%w: it does not hold the lease", ErrNotLeading)
	}
	if age := l.now().since(l.renewed); age+d+Margin > l.lease {
		return fmt.Errorf("%w: it last renewed its lease of %s %s ago, and needs %s of it",
			ErrNotLeading, l.lease, age.Round(time.Millisecond), d+Margin)
	}
	return nil
}

// Begin admits a request that takes effect within d, or not at all. end must be called once it is known to have ended;
// until then the lease is not given up. The error is an ErrNotLeading: nothing may be sent.
func (l *Leader) Begin(d time.Duration) (end func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.holds(d); err != nil {
		return nil, err
	}
	if l.under == 0 {
		l.idle = make(chan struct{})
	}
	l.under++
	return sync.OnceFunc(l.end), nil
}

func (l *Leader) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under--; l.under == 0 {
		close(l.idle)
	}
}

// instant is a moment on both clocks.
type instant struct {
	// monotonic is since some fixed moment. It does not count while the machine sleeps, or a VM is frozen.
	monotonic time.Duration
	wall      time.Time
}

// since returns how long ago an earlier instant was, by the clock that says longer.
func (t instant) since(earlier instant) time.Duration {
	return max(t.monotonic-earlier.monotonic, t.wall.Sub(earlier.wall))
}

func realTime() func() instant {
	start := time.Now()
	return func() instant {
		now := time.Now()
		return instant{monotonic: now.Sub(start), wall: now.Round(0)} // Round(0) takes the monotonic reading away
	}
}
