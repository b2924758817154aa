// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package timers runs functions at moments that no API event tells: an idle-after or min-runtime that is over, a load that
// timed out.
package timers

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Timers are those that are pending: at most one for each key, the earliest asked for. They are safe for concurrent use.
type Timers struct {
	clock   clock.WithDelayedExecution
	mu      sync.Mutex
	pending map[string]*timer
}

// New returns timers of a clock.
func New(c clock.WithDelayedExecution) *Timers {
	return &Timers{clock: c, pending: map[string]*timer{}}
}

type timer struct {
	at   time.Time
	stop func() bool
}

// At runs f at a moment, or now if that is past. An earlier moment for the same key replaces a later one.
func (t *Timers) At(key string, at time.Time, f func()) {
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

// Has says whether a timer for the key is pending.
func (t *Timers) Has(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending[key] != nil
}
