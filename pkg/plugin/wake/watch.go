// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"time"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// WatchLoads retries the pods that wait for loading pods of a node when one of these has loaded for too long: no event
// tells that it no longer counts as loading.
func (w *Waker) WatchLoads(node string) {
	now := w.Clock.Now()
	var next time.Time
	for _, e := range w.Tracker.Ledger.OnNode(node) {
		if e.Pod == nil {
			continue
		}
		until, loading := gpustate.LoadingUntil(e.Pod, w.Args.LoadTimeout.Duration)
		if loading && until.After(now) && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	if !next.IsZero() {
		w.Timers.At("load/"+node, next, func() {
			w.WatchLoads(node)
			w.NodeChanged(node)
		})
	}
}

// WatchVictims retries pods when somebody on a node may be evicted whom nobody could evict before: a min-runtime is
// over, or a pod has been idle for its idle-after. No event tells that; the moments are read from the ledger and the
// report whenever one of them changes.
func (w *Waker) WatchVictims(node string) {
	now := w.Clock.Now()
	report, _ := w.Tracker.Store.Report(node, 0)
	var next time.Time
	for _, e := range w.Tracker.Ledger.OnNode(node) {
		if e.Terms == (gpustate.Terms{}) || e.State != gpustate.Confirmed {
			continue
		}
		if at := w.evictableFrom(e, report); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if !next.IsZero() {
		w.Timers.At("victims/"+node, next, func() {
			w.WatchVictims(node)
			w.NodeReshaped(node)
		})
	}
}

// evictableFrom is the next moment at which more may evict a pod than before; a moment that is past is no news.
func (w *Waker) evictableFrom(e *gpustate.Entry, report *gpustate.Report) time.Time {
	protected := e.ProtectedUntil(w.Args.LoadTimeout.Duration, w.Args.MaxMinRuntime.Duration)
	if e.Terms.IdleAfter == 0 || report == nil || protected.After(w.Clock.Now()) {
		return protected
	}
	since, idle := report.IdleSince(e.UID)
	if !idle {
		return time.Time{}
	}
	return since.Add(e.Terms.IdleAfter)
}
