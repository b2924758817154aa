// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package words

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestPlacementsAreToldSlowlyWhileThereAreMore, and in their order.
func TestPlacementsAreToldSlowlyWhileThereAreMore(t *testing.T) {
	clock := testclock.NewFakeClock(bt.Epoch)
	told := make(chan string)
	a := NewAnnouncer(t.Context(), clock, func(p Placement) { told <- p.Note })
	place := func(note string) { a.Placed(t.Context(), &corev1.Pod{}, note) }
	next := func(want string, after time.Duration) {
		t.Helper()
		if after > 0 {
			bt.Eventually(t, "the announcer waits", clock.HasWaiters)
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
	bt.Eventually(t, "the announcer waits", clock.HasWaiters)
	place("e")
	next("e", idlePause)
	place("f")
	next("f", placingPause)
}

// TestBindingsNeverWaitForTheirEvents, though nobody takes them.
func TestBindingsNeverWaitForTheirEvents(t *testing.T) {
	ended := make(chan struct{})
	defer close(ended)
	a := NewAnnouncer(t.Context(), testclock.NewFakeClock(bt.Epoch), func(Placement) { <-ended })
	for i := range maxPlacements + 5 {
		a.Placed(t.Context(), &corev1.Pod{}, fmt.Sprint(i))
	}
}
