// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/berth-dev/berth/pkg/modelsource"
)

// retryRule is how soon a failed resolution is tried again: after first, then twice as long each time, at most
// after limit.
type retryRule struct{ first, limit time.Duration }

// retryRules follow who has to act: an unreachable hub comes back by itself, a model is uploaded or a token is given
// within minutes, a format is supported in another release.
var retryRules = map[modelsource.Reason]retryRule{
	modelsource.Unreachable:  {first: 5 * time.Second, limit: 5 * time.Minute},
	modelsource.NotFound:     {first: 15 * time.Second, limit: 2 * time.Minute},
	modelsource.Unauthorized: {first: 15 * time.Second, limit: 2 * time.Minute},
	modelsource.BadFile:      {first: time.Minute, limit: 30 * time.Minute},
	modelsource.Unsupported:  {first: time.Hour, limit: time.Hour},
}

// attempts remembers when each profile is to be looked up next. It is memory only: a controller that starts looks
// everything up that is not known.
type attempts struct {
	mu     sync.Mutex
	byName map[string]attempt
}

type attempt struct {
	uid      string
	failures int
	next     time.Time
}

// due returns how long a profile is not to be looked up; zero or less: now. known is false for a profile that was
// not looked up since the start.
func (a *attempts) due(name, uid string, now time.Time) (wait time.Duration, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.byName[name]
	if !ok || t.uid != uid {
		return 0, false
	}
	return t.next.Sub(now), true
}

// succeeded schedules the next look after interval.
func (a *attempts) succeeded(name, uid string, now time.Time, interval time.Duration) time.Duration {
	return a.set(name, attempt{uid: uid, next: now.Add(jittered(interval))}, now)
}

// failed schedules the next attempt by the reason of the failure, and not before the source wants it.
func (a *attempts) failed(name, uid string, now time.Time, reason modelsource.Reason, retryAfter time.Duration) time.Duration {
	a.mu.Lock()
	failures := 0
	if last, ok := a.byName[name]; ok && last.uid == uid {
		failures = last.failures
	}
	a.mu.Unlock()
	rule := retryRules[reason]
	wait := min(rule.first<<min(failures, 16), rule.limit)
	return a.set(name, attempt{uid: uid, failures: failures + 1, next: now.Add(max(jittered(wait), retryAfter))}, now)
}

func (a *attempts) set(name string, t attempt, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byName == nil {
		a.byName = map[string]attempt{}
	}
	a.byName[name] = t
	return t.next.Sub(now)
}

func (a *attempts) forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byName, name)
}

// jittered is d, up to a tenth longer, so that what failed together does not come back together.
func jittered(d time.Duration) time.Duration { return d + rand.N(d/10+1) }
