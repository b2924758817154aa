// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"sync"
	"time"
)

const (
	// atMost is how often the revision changes: once in so long. Where answers are dear, it changes once in pauses times what the
	// dearest one took, so that looking costs a cluster and this machine a small part of their time only.
	atMost = time.Second
	pauses = 4
	// atLeast is after what time it changes though nothing was told of: reports grow stale by time alone, and not all that
	// is read is watched.
	atLeast = 15 * time.Second
)

// revisions count what is known: within one revision, each question has one answer.
type revisions struct {
	mu     sync.Mutex
	number int64
	// next is closed when the number changes.
	next chan struct{}
	// dirty are the resources that changed since, and took is what the dearest answer took.
	dirty map[string]bool
	took  time.Duration
	wake  chan struct{}
}

func newRevisions() *revisions {
	return &revisions{number: 1, next: make(chan struct{}), dirty: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// now returns the number, and what is closed when it changes.
func (r *revisions) now() (number int64, next <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.number, r.next
}

// changed says that something of a resource changed.
func (r *revisions) changed(resource string) {
	r.mu.Lock()
	r.dirty[resource] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// answered says how long an answer took.
func (r *revisions) answered(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = max(r.took, took)
}

// run changes the number when something changed, until ctx ends. drop is told before what changed; nil = nobody knows.
func (r *revisions) run(ctx context.Context, drop func(dirty map[string]bool)) {
	last := time.Now()
	for {
		told := true
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-time.After(atLeast):
			told = false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(last.Add(r.pause()))):
		}
		r.advance(told, drop)
		last = time.Now()
	}
}

func (r *revisions) pause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(atMost, pauses*r.took)
}

func (r *revisions) advance(told bool, drop func(dirty map[string]bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dirty := r.dirty
	r.dirty, r.took = map[string]bool{}, 0
	if !told {
		dirty = nil
	}
	drop(dirty)
	r.number++
	close(r.next)
	r.next = make(chan struct{})
}
