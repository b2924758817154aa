// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"slices"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// confirmAfter is when a problem is looked at again before it counts: an apiserver loads changed policies once a second,
	// and a restart of it is no problem of theirs.
	confirmAfter = 5 * time.Second
	// retryAfter is how soon policies are tried again while there are problems.
	retryAfter = 30 * time.Second
	// tellAgainAfter is when a problem that lasts is told again: the apiserver keeps Events for an hour.
	tellAgainAfter = 50 * time.Minute
)

// Watcher makes rounds, and tells what they find.
type Watcher struct {
	// Check makes a round; Interval is the time between two while all is well.
	Check    func(context.Context) []Finding
	Interval time.Duration
	State    *State
	Clock    clock.Clock
	// Leading says whether this process is the one that writes Events.
	Leading func() bool
	// Found is told every finding of a round that counts. Changed is called after the state changed from or to all being well.
	Found   func(Finding)
	Changed func(well bool)
	// Tell writes an Event: of what is wrong, or, with empty text, that nothing is any more.
	Tell func(why string)

	// suspected says that the last round had problems.
	suspected bool
	// told are the policies whose problems were told last, and when.
	told   []string
	toldAt time.Time
}

// Run makes rounds until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	for {
		wait := w.round(ctx)
		select {
		case <-w.Clock.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// round makes a round, and returns when the next one is due. A problem counts once two rounds have found some.
func (w *Watcher) round(ctx context.Context) time.Duration {
	findings := w.Check(ctx)
	if ctx.Err() != nil {
		return w.Interval
	}
	bad := names(findings)
	confirmed := w.suspected
	if w.suspected = len(bad) > 0; w.suspected && !confirmed {
		return min(w.Interval, confirmAfter)
	}
	before := w.State.set(findings)
	for _, f := range findings {
		w.Found(f)
	}
	if before == nil || !slices.Equal(names(before), bad) {
		w.log(ctx, findings, before == nil)
	}
	if wasWell := before != nil && len(names(before)) == 0; wasWell != (len(bad) == 0) {
		w.Changed(len(bad) == 0)
	}
	w.tell(findings, bad)
	if len(bad) > 0 {
		return min(w.Interval, retryAfter)
	}
	return w.Interval
}

func (w *Watcher) log(ctx context.Context, findings []Finding, first bool) {
	logger := klog.FromContext(ctx)
	if why := why(findings); why != "" {
		logger.Error(nil, "Admission policies of Berth are not known to be in force", "why", why)
	} else if !first {
		logger.Info("All admission policies of Berth are in force again")
	}
}

// tell writes Events: of each change, and again of what lasts.
func (w *Watcher) tell(findings []Finding, bad []string) {
	changed := !slices.Equal(bad, w.told)
	again := len(bad) > 0 && w.Clock.Since(w.toldAt) >= tellAgainAfter
	if !w.Leading() || !changed && !again {
		return
	}
	w.told, w.toldAt = bad, w.Clock.Now()
	w.Tell(why(findings))
}
