// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"container/heap"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// virtualClock stands still until it is moved. Timers of one moment fire in the order in which they were set.
type virtualClock struct {
	mu     sync.Mutex
	now    time.Time
	set    int
	timers timerHeap
}

var _ clock.WithTickerAndDelayedExecution = &virtualClock{}

func newClock(start time.Time) *virtualClock { return &virtualClock{now: start} }

func (c *virtualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *virtualClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// next returns when the next timer fires.
func (c *virtualClock) next() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return time.Time{}, false
	}
	return c.timers[0].at, true
}

// moveTo moves to a moment, and fires on the way what is due.
func (c *virtualClock) moveTo(t time.Time) {
	for {
		c.mu.Lock()
		if len(c.timers) == 0 || c.timers[0].at.After(t) {
			if t.After(c.now) {
				c.now = t
			}
			c.mu.Unlock()
			return
		}
		due := heap.Pop(&c.timers).(*timer)
		if due.at.After(c.now) {
			c.now = due.at
		}
		c.mu.Unlock()
		due.fire()
	}
}

// tick moves by so little that only an order comes of it.
func (c *virtualClock) tick() { c.moveTo(c.Now().Add(time.Microsecond)) }

func (c *virtualClock) start(d time.Duration, fire func()) *timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set++
	t := &timer{clock: c, at: c.now.Add(max(d, 0)), order: c.set, fire: fire}
	heap.Push(&c.timers, t)
	return t
}

func (c *virtualClock) AfterFunc(d time.Duration, f func()) clock.Timer { return c.start(d, f) }

func (c *virtualClock) NewTimer(d time.Duration) clock.Timer {
	ch := make(chan time.Time, 1)
	t := c.start(d, nil)
	t.channel = ch
	t.fire = func() { ch <- c.Now() }
	return t
}

func (c *virtualClock) After(d time.Duration) <-chan time.Time { return c.NewTimer(d).C() }

// Sleep returns at once: who sleeps would wait for whoever moves the clock.
func (c *virtualClock) Sleep(time.Duration) {}

// Tick and NewTicker never tick: the queue's own loops are not run.
func (c *virtualClock) Tick(time.Duration) <-chan time.Time  { return nil }
func (c *virtualClock) NewTicker(time.Duration) clock.Ticker { return noTicker{} }

type noTicker struct{}

func (noTicker) C() <-chan time.Time { return nil }
func (noTicker) Stop()               {}

// timer is a clock.Timer.
type timer struct {
	clock   *virtualClock
	at      time.Time
	order   int
	index   int // in the heap; -1 = not in it
	fire    func()
	channel chan time.Time
}

func (t *timer) C() <-chan time.Time { return t.channel }

func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.timers, t.index)
	return true
}

func (t *timer) Reset(d time.Duration) bool {
	was := t.Stop()
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	t.clock.set++
	t.at, t.order = t.clock.now.Add(max(d, 0)), t.clock.set
	heap.Push(&t.clock.timers, t)
	return was
}

// timerHeap is a heap.Interface, the next timer first.
type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].order < h[j].order
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
