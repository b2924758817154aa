// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// timers runs functions at moments that no API event tells: an idle-after or min-runtime that is over, a load that
// timed out. There is at most one timer for each key, the earliest asked for.
type timers struct {
	clock   clock.WithDelayedExecution
	mu      sync.Mutex
	pending map[string]*timer
}

type timer struct {
	at   time.Time
	stop func() bool
}

// at runs f at a moment, or now if that is past. An earlier moment for the same key replaces a later one.
func (t *timers) at(key string, at time.Time, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.pending[key]; old != nil {
		if !at.Before(old.at) {
			return
		}
		old.stop()
	}
	next := &timer{at: at}
	// A hair later than asked: what is decided by "not before at" must be true when it is looked at.
	delay := max(at.Sub(t.clock.Now()), 0) + time.Millisecond
	next.stop = t.clock.AfterFunc(delay, func() {
		t.mu.Lock()
		if t.pending[key] == next {
			delete(t.pending, key)
		}
		t.mu.Unlock()
		f()
	}).Stop
	t.pending[key] = next
}

// has says whether a timer for the key is pending.
func (t *timers) has(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending[key] != nil
}
