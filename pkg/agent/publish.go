// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Client is what the agent needs of the API server, for its own node's objects.
type Client interface {
	// Report returns the node's GPUNode; an error for which apierrors.IsNotFound holds if there is none.
	Report(ctx context.Context) (*berthv1alpha1.GPUNode, error)
	// Version returns the resource version of the node's GPUNode, as of some time after notOlderThan; an error as Report.
	Version(ctx context.Context, notOlderThan string) (string, error)
	// Apply makes status the status of the node's GPUNode, which it creates if there is none, and returns the
	// object's resource version.
	Apply(ctx context.Context, status *berthv1alpha1.GPUNodeStatus) (resourceVersion string, err error)
	// RenewLease proves that the agent is alive and that its report is true at now.
	RenewLease(ctx context.Context, now time.Time) error
}

const (
	// writeTimeout bounds one request to the API server.
	writeTimeout = 10 * time.Second
	// firstRetry doubles up to lastRetry, which is short because the scheduler does not place pods by an old report.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 2 * time.Second
	// verifyInterval is how often the agent looks whether its GPUNode is still what it wrote. With the time between two
	// writes, what somebody else wrote stands for less than 10 s.
	verifyInterval = 7 * time.Second
)

// publisher writes the newest status when it differs from what it last wrote, at most once per interval. Between
// writes only the newest status is kept, so that whatever fails, and for however long, the next write is of the
// newest state.
type publisher struct {
	client   Client
	clock    clock.WithTicker
	interval time.Duration
	quantum  int64
	counters *counters

	// wake holds a token when there is a status to look at.
	wake chan struct{}

	mu      sync.Mutex
	newest  *berthv1alpha1.GPUNodeStatus
	written *berthv1alpha1.GPUNodeStatus
	// dirtySince is since when newest is to be written; zero if it need not be.
	dirtySince time.Time
	// writtenAt is when a write was last tried.
	writtenAt time.Time
	// trueAt is when what is written was last what the agent saw.
	trueAt          time.Time
	resourceVersion string
}

func newPublisher(o *Options, c *counters) *publisher {
	return &publisher{
		client:   o.Client,
		clock:    o.Clock,
		interval: o.ReportInterval,
		quantum:  o.Quantum,
		counters: c,
		wake:     make(chan struct{}, 1),
	}
}

// set gives the publisher a newer status, which must not be changed after.
func (p *publisher) set(s *berthv1alpha1.GPUNodeStatus) {
	p.mu.Lock()
	p.newest = s
	dirty := p.markDirty()
	p.mu.Unlock()
	if dirty {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// markDirty says whether newest has to be written. p.mu is held.
func (p *publisher) markDirty() bool {
	if p.newest == nil {
		return false
	}
	if p.written != nil && !changed(p.written, p.newest, p.quantum) {
		p.trueAt, p.dirtySince = p.clock.Now(), time.Time{}
		return false
	}
	if p.dirtySince.IsZero() {
		p.dirtySince = p.clock.Now()
	}
	return true
}

// run writes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	// The first look comes at a random time, so that agents that start together do not look together.
	verify := p.clock.NewTimer(rand.N(verifyInterval))
	defer verify.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-verify.C():
			p.verify(ctx)
			verify.Reset(verifyInterval)
		}
		p.flush(ctx)
	}
}

// flush writes until the newest status is written or ctx ends.
func (p *publisher) flush(ctx context.Context) {
	retry := firstRetry
	for {
		if !sleep(ctx, p.clock, p.untilDue()) {
			return
		}
		p.mu.Lock()
		dirty, s := p.markDirty(), p.newest
		p.mu.Unlock()
		if !dirty {
			return
		}
		err := p.write(ctx, s)
		if err == nil {
			retry = firstRetry
			continue
		}
		klog.FromContext(ctx).Error(err, "Report not written, trying again", "retryAfter", retry)
		if !sleep(ctx, p.clock, retry/2+rand.N(retry/2+1)) {
			return
		}
		retry = min(2*retry, lastRetry)
	}
}

// untilDue returns how long the next write has to wait. A clock that was set back does not make it wait longer.
func (p *publisher) untilDue() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writtenAt.IsZero() {
		return 0
	}
	since := p.clock.Since(p.writtenAt)
	if since < 0 {
		return 0
	}
	return p.interval - since
}

func (p *publisher) write(ctx context.Context, s *berthv1alpha1.GPUNodeStatus) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	version, err := p.client.Apply(ctx, s)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writtenAt = p.clock.Now()
	if err != nil {
		// It may have been written all the same: what the object holds is not known.
		p.written = nil
		p.counters.writeErrors.Add(1)
		return err
	}
	p.written, p.resourceVersion = s, version
	p.counters.writes.Add(1)
	p.markDirty()
	return nil
}

// verify has the status written again if somebody else changed or deleted the object. Only versions are compared, for what
// somebody else wrote need not be readable.
func (p *publisher) verify(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	p.mu.Lock()
	written := p.resourceVersion
	p.mu.Unlock()
	if written == "" {
		return // nothing was
	}
	version, err := p.client.Version(ctx, written)
	if err != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Error(err, "Report not verified")
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || version != written {
		p.written = nil
	}
}

// inSync says whether what is written is what the agent last saw, or is about to be within grace.
func (p *publisher) inSync(grace time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dirtySince.IsZero() {
		return p.written != nil
	}
	return p.resourceVersion != "" && p.clock.Since(p.dirtySince) <= grace
}

// age returns for how long what is written has not been known to be what the agent sees; false before the first write.
func (p *publisher) age() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock.Since(p.trueAt), !p.trueAt.IsZero()
}

// sleep waits for d; false if ctx ended before.
func sleep(ctx context.Context, c clock.Clock, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return true
	}
}
