// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"
)

// TestPlacementsAreToldSlowlyWhileThereAreMore, and in their order.
func TestPlacementsAreToldSlowlyWhileThereAreMore(t *testing.T) {
	clock := testclock.NewFakeClock(epoch)
	told := make(chan string)
	a := newAnnouncer(t.Context(), clock, func(p placement) { told <- p.note })
	place := func(note string) { a.placed(t.Context(), &corev1.Pod{}, note) }
	next := func(want string, after time.Duration) {
		t.Helper()
		if after > 0 {
			eventually(t, "the announcer waits", clock.HasWaiters)
			clock.Step(after - 1)
			if !clock.HasWaiters() {
				t.Fatalf("%s is told too early", want)
			}
			clock.Step(1)
		}
		if got := <-told; got != want {
			t.Fatalf("told of %s, want %s", got, want)
		}
	}
	place("a")
	place("b")
	place("c")
	place("d")
	next("a", 0)
	next("b", placingPause)
	next("c", placingPause) // by then no more come
	next("d", idlePause)
	eventually(t, "the announcer waits", clock.HasWaiters)
	place("e")
	next("e", idlePause)
	place("f")
	next("f", placingPause)
}

// TestBindingsNeverWaitForTheirEvents, though nobody takes them.
func TestBindingsNeverWaitForTheirEvents(t *testing.T) {
	ended := make(chan struct{})
	defer close(ended)
	a := newAnnouncer(t.Context(), testclock.NewFakeClock(epoch), func(placement) { <-ended })
	for i := range maxPlacements + 5 {
		a.placed(t.Context(), &corev1.Pod{}, fmt.Sprint(i))
	}
}
