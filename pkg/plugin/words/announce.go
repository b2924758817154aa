// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package words

import (
	"context"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// Placement is what the owner of a pod that was placed is told. Of the pod, what an Event names is known for sure; thousands may
// wait, and pods are large.
type Placement struct {
	Pod  *corev1.Pod
	Note string
}

// Announcer tells of placements, in their order. The log has them at once.
type Announcer struct {
	clock   clock.Clock
	waiting chan Placement
	// atOnce, if set, tells of each placement while it is made.
	atOnce func(Placement)
	// last is when a pod was placed last, in nanoseconds since 1970.
	last atomic.Int64
}

// NewAnnouncer returns an announcer that calls write for each placement until ctx ends.
func NewAnnouncer(ctx context.Context, c clock.Clock, write func(Placement)) *Announcer {
	a := &Announcer{clock: c, waiting: make(chan Placement, maxPlacements)}
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

// AtOnce returns an announcer that tells of each placement while it is made.
func AtOnce(write func(Placement)) *Announcer { return &Announcer{atOnce: write} }

// pause waits until the next Event may be written.
func (a *Announcer) pause(ctx context.Context) {
	d := idlePause
	if a.clock.Since(time.Unix(0, a.last.Load())) < placingFor {
		d = placingPause
	}
	select {
	case <-a.clock.After(d):
	case <-ctx.Done():
	}
}

// Placed tells of a placement some time soon. One too many goes to the log alone.
func (a *Announcer) Placed(ctx context.Context, pod *corev1.Pod, note string) {
	if a.atOnce != nil {
		a.atOnce(Placement{Pod: pod, Note: note})
		return
	}
	a.last.Store(a.clock.Now().UnixNano())
	select {
	case a.waiting <- Placement{Pod: named(pod), Note: note}:
	default:
		klog.FromContext(ctx).Info("No Event of this placement: too many wait to be written", "pod", klog.KObj(pod), "note", note)
	}
}

// named returns a pod that is only what an Event names of it.
func named(pod *corev1.Pod) *corev1.Pod {
	return &corev1.Pod{TypeMeta: pod.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}}
}
