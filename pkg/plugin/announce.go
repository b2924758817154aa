// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
)

// Events of placements are written at this rate and no faster: the framework writes one of its own for each pod, and
// a second one at once would take a third off the throughput when thousands of pods come together.
const (
	placementsPerSecond = 25
	placementsBurst     = 100
	// maxPlacements bounds those that wait to be told.
	maxPlacements = 10_000
)

// placement is what the owner of a pod that was placed is told.
type placement struct {
	pod  *corev1.Pod
	note string
}

// announcer tells of placements, in their order, while there are bindings to make as well. The log has them at once.
type announcer struct{ waiting chan placement }

func newAnnouncer(ctx context.Context, write func(placement)) *announcer {
	a := &announcer{waiting: make(chan placement, maxPlacements)}
	limiter := flowcontrol.NewTokenBucketRateLimiter(placementsPerSecond, placementsBurst)
	go func() {
		for {
			select {
			case p := <-a.waiting:
				if limiter.Wait(ctx) == nil { // it fails only once ctx is done
					write(p)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return a
}

// placed tells of a placement some time soon. One too many goes to the log alone.
func (a *announcer) placed(ctx context.Context, pod *corev1.Pod, note string) {
	select {
	case a.waiting <- placement{pod: pod, note: note}:
	default:
		klog.FromContext(ctx).Info("No Event of this placement: too many wait to be written", "pod", klog.KObj(pod), "note", note)
	}
}
