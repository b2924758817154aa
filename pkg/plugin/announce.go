// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// The Event of a placement waits while other pods are being placed: the framework writes one of its own for each pod,
// and a second one at once would take a third off the throughput when thousands of pods come together.
const (
	// placingPause is the pause between Events while pods are being placed, and idlePause once none is.
	placingPause = 100 * time.Millisecond
	idlePause    = 10 * time.Millisecond
	// placingFor is how long after a placement more are expected.
	placingFor = 200 * time.Millisecond
	// maxPlacements bounds those that wait to be told.
	maxPlacements = 10_000
)

// placement is what the owner of a pod that was placed is told.
type placement struct {
	pod  *corev1.Pod
	note string
}

// announcer tells of placements, in their order. The log has them at once.
type announcer struct {
	clock   clock.Clock
	waiting chan placement
	// atOnce, if set, tells of each placement while it is made.
	atOnce func(placement)
	// last is when a pod was placed last, in nanoseconds since 1970.
	last atomic.Int64
}

// newAnnouncer returns an announcer that calls write for each placement until ctx ends.
func newAnnouncer(ctx context.Context, c clock.Clock, write func(placement)) *announcer {
	a := &announcer{clock: c, waiting: make(chan placement, maxPlacements)}
	go func() {
		for {
			select {
			case p := <-a.waiting:
				write(p)
				a.pause(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return a
}

// pause waits until the next Event may be written.
func (a *announcer) pause(ctx context.Context) {
	d := idlePause
	if a.clock.Since(time.Unix(0, a.last.Load())) < placingFor {
		d = placingPause
	}
	select {
	case <-a.clock.After(d):
	case <-ctx.Done():
	}
}

// placed tells of a placement some time soon. One too many goes to the log alone.
func (a *announcer) placed(ctx context.Context, pod *corev1.Pod, note string) {
	if a.atOnce != nil {
		a.atOnce(placement{pod: pod, note: note})
		return
	}
	a.last.Store(a.clock.Now().UnixNano())
	select {
	case a.waiting <- placement{pod: pod, note: note}:
	default:
		klog.FromContext(ctx).Info("No Event of this placement: too many wait to be written", "pod", klog.KObj(pod), "note", note)
	}
}
