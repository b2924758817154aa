// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Runtimes finds out by the node's files how its container runtimes can be told GPUs.
type Runtimes interface {
	// Runtimes returns the handlers of which something is known, and when the newest of the files that say so changed.
	Runtimes(ctx context.Context) (runtimes []berthv1alpha1.RuntimeHandOff, changed time.Time)
}

// runtimesInterval is how often the files are read again.
const runtimesInterval = time.Minute

// watchRuntimes reads the files of the node's container runtimes again and again, until ctx ends.
func (a *Agent) watchRuntimes(ctx context.Context) {
	for sleep(ctx, a.opts.Clock, runtimesInterval) {
		a.readRuntimes(ctx)
	}
}

func (a *Agent) readRuntimes(ctx context.Context) {
	runtimes, changed := a.opts.Runtimes.Runtimes(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runtimes, a.runtimesChanged = runtimes, changed
}

// handOff returns how the node's container runtimes can be told GPUs, by their files, and what becomes of memory limits; nil if
// nothing is known.
func (a *Agent) handOff(r *Reading) *berthv1alpha1.HandOff {
	a.mu.Lock()
	h := &berthv1alpha1.HandOff{Runtimes: limited(a.runtimes, a.limitsFail(r))}
	if !a.runtimesChanged.IsZero() {
		changed := metav1.NewTime(a.runtimesChanged).Rfc3339Copy()
		h.ChangedTime = &changed
	}
	a.mu.Unlock()
	if a.opts.Specification != nil {
		h.Runtimes, h.NotInjected = a.nri.addTo(h.Runtimes), a.nri.without
	}
	if len(h.Runtimes) == 0 {
		return nil
	}
	return h
}
