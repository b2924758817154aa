// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Guard returns a lock that tells the leader of every renewal. The elector is to use it in place of the given one. lost
// is called, once, when it turns out that another process led since: this one may do nothing more, and is to end at
// once.
func (l *Leader) Guard(lock resourcelock.Interface, lost func(error)) resourcelock.Interface {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.identity = lock.Identity()
	return &guarded{Interface: lock, leader: l, lost: lost}
}

// guarded is a resource lock. The elector calls it from one goroutine at a time.
type guarded struct {
	resourcelock.Interface
	leader *Leader
	lost   func(error)
	// released says that whoever held the lock last gave it up.
	released bool
	// second is the renewTime that others see, in seconds since 1970, and since is before it was first sent.
	second int64
	since  instant
}

// Get reads the record, and notices another leader.
func (g *guarded) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := g.Interface.Get(ctx)
	switch {
	case err == nil:
		g.released = record.HolderIdentity == ""
		if record.HolderIdentity != g.Identity() {
			g.notOurs(fmt.Errorf("the lease is held by %q", record.HolderIdentity))
		}
	case apierrors.IsNotFound(err):
		g.released = false
		g.notOurs(errors.New("the lease was deleted"))
	}
	return record, raw, err
}

// Create takes the lock.
func (g *guarded) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return g.write(record, func() error { return g.Interface.Create(ctx, record) })
}

// Update takes the lock, renews it, or gives it up. It is given up only once everything that was admitted has ended; if
// that does not come in time it is left to expire.
func (g *guarded) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity != g.Identity() {
		if err := g.leader.giveUp(ctx); err != nil {
			return err
		}
	}
	return g.write(record, func() error { return g.Interface.Update(ctx, record) })
}

func (g *guarded) write(record resourcelock.LeaderElectionRecord, send func() error) error {
	sent := g.leader.now()
	if err := send(); err != nil {
		return err // it may have been applied, but the lease that is known of ends earlier
	}
	if record.HolderIdentity == g.Identity() {
		// Others compare records whose times are in whole seconds: of two renewals in one second they see the first.
		if second := record.RenewTime.Unix(); second != g.second {
			g.second, g.since = second, sent
		}
		g.leader.renew(g.since, time.Duration(record.LeaseDurationSeconds)*time.Second, !g.released)
	}
	return nil
}

// renew notes a successful renewal that was sent after an instant, or that the lock was acquired: then tookOver says
// whether from a process that had not given it up.
func (l *Leader) renew(sent instant, lease time.Duration, tookOver bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == 0 {
		l.tookOver = tookOver
	}
	l.renewed, l.lease = sent, lease
	l.elect()
}

// notOurs notes that the lease is not this process's. If it was before, another may have led since: it is over.
func (g *guarded) notOurs(why error) {
	l := g.leader
	l.mu.Lock()
	first := l.lease != 0 && l.over == nil
	if first {
		l.over = why
	}
	l.mu.Unlock()
	if first {
		g.lost(why)
	}
}

// giveUp ends the leadership, and waits until what was admitted has ended.
func (l *Leader) giveUp(ctx context.Context) error {
	l.mu.Lock()
	if l.over == nil {
		l.over = errors.New("it is ending")
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-idle: // of two that are ready select takes any
		return nil
	default:
		return errors.New("the lease is not given up, since requests of this process may still take effect")
	}
}
