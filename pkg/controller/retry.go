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

// unfinishedRule is for attempts of which no end is known: the process ended in them, perhaps because of them.
var unfinishedRule = retryRule{first: 30 * time.Second, limit: 30 * time.Minute}

// attempts remembers when each profile is to be looked up next. It is memory only: a controller that starts looks
// everything up that is not known, first what no controller before it ended in.
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
	wait := retryRules[reason].after(failures)
	return a.set(name, attempt{uid: uid, failures: failures + 1, next: now.Add(jittered(max(wait, retryAfter)))}, now)
}

// unfinished schedules the next attempt after count of them, the last at a time, did not end as far as anybody knows.
// Chance spreads those that were made at once: one of them is to blame, and the others end well without it.
func (a *attempts) unfinished(name, uid string, now, last time.Time, count int32) time.Duration {
	wait := unfinishedRule.after(int(count) - 1)
	if last.After(now) {
		last = now // another clock
	}
	return a.set(name, attempt{uid: uid, next: last.Add(wait + rand.N(wait))}, now)
}

// after returns how long to wait after a failure that others in a row went before.
func (r retryRule) after(failures int) time.Duration {
	return min(r.first<<min(max(failures, 0), 16), r.limit)
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
