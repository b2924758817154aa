// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"time"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// watchLoads retries the pods that wait for loading pods of a node when one of these has loaded for too long: no event
// tells that it no longer counts as loading.
func (pl *Plugin) watchLoads(node string) {
	now := pl.clock.Now()
	var next time.Time
	for _, e := range pl.tracker.Ledger.OnNode(node) {
		if e.Pod == nil {
			continue
		}
		until, loading := gpustate.LoadingUntil(e.Pod, pl.args.LoadTimeout.Duration)
		if loading && until.After(now) && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	if !next.IsZero() {
		pl.world.Timers.At("load/"+node, next, func() {
			pl.watchLoads(node)
			pl.nodeChanged(node)
		})
	}
}

// watchVictims retries pods when somebody on a node may be evicted whom nobody could evict before: a min-runtime is
// over, or a pod has been idle for its idle-after. No event tells that; the moments are read from the ledger and the
// report whenever one of them changes.
func (pl *Plugin) watchVictims(node string) {
	now := pl.clock.Now()
	report, _ := pl.tracker.Store.Report(node, 0)
	var next time.Time
	for _, e := range pl.tracker.Ledger.OnNode(node) {
		if e.Terms == (gpustate.Terms{}) || e.State != gpustate.Confirmed {
			continue
		}
		if at := pl.evictableFrom(e, report); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if !next.IsZero() {
		pl.world.Timers.At("victims/"+node, next, func() {
			pl.watchVictims(node)
			pl.nodeReshaped(node)
		})
	}
}

// evictableFrom is the next moment at which more may evict a pod than before; a moment that is past is no news.
func (pl *Plugin) evictableFrom(e *gpustate.Entry, report *gpustate.Report) time.Time {
	protected := e.ProtectedUntil(pl.args.LoadTimeout.Duration, pl.args.MaxMinRuntime.Duration)
	if e.Terms.IdleAfter == 0 || report == nil || protected.After(pl.clock.Now()) {
		return protected
	}
	since, idle := report.IdleSince(e.UID)
	if !idle {
		return time.Time{}
	}
	return since.Add(e.Terms.IdleAfter)
}
