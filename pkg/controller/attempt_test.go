// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// restarted is the world after its controller ended and another one started: nothing is in memory.
func (w *world) restarted() {
	w.profiles = &profileReconciler{client: w.client, status: w.profiles.status, resolver: w.resolver, clock: w.clock, options: w.profiles.options, turns: newTurns(1)}
}

// deadClient writes nothing once its process is dead.
type deadClient struct {
	client.Client
	life context.Context
}

func (c deadClient) Status() client.SubResourceWriter {
	if c.life.Err() != nil {
		return c.Client.SubResource("none") // which is refused
	}
	return c.Client.Status()
}

// TestAttemptThatEndedTheControllerIsNotTriedAtOnceAgain is attack 3: the same file killed each controller that started.
func TestAttemptThatEndedTheControllerIsNotTriedAtOnceAgain(t *testing.T) {
	w := newWorld(t, modelPod("a"))
	w.pod("a")
	// kill runs an attempt up to its middle: nothing that comes after it is written.
	kill := func() {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		w.resolver.during = func() {
			var p berthv1alpha1.ModelProfile
			if err := w.client.Get(t.Context(), client.ObjectKey{Name: berthv1alpha1.ModelProfileName(source)}, &p); err != nil {
				t.Fatal(err)
			}
			if p.Status.LastAttemptTime == nil || !p.Status.LastAttemptTime.Time.Equal(w.clock.Now()) {
				t.Errorf("the attempt began before it was written down: %v", p.Status.LastAttemptTime)
			}
			stop()
		}
		w.profiles.status.client = deadClient{w.profiles.status.client, ctx}
		_, _ = w.profiles.Reconcile(ctx, request("", berthv1alpha1.ModelProfileName(source)))
		w.profiles.status.client = w.client
		w.resolver.during = nil
		w.restarted()
	}

	kill()
	calls := w.resolver.calls
	p, wait := w.profile()
	if w.resolver.calls != calls || p.Status.UnfinishedAttempts != 1 || wait < 30*time.Second || wait > time.Minute {
		t.Fatalf("after one: %d calls, %d attempts without an end, next in %s; want none, 1, and 30 s to a minute", w.resolver.calls-calls, p.Status.UnfinishedAttempts, wait)
	}
	w.advance(time.Minute)
	kill()
	calls = w.resolver.calls
	if p, wait = w.profile(); w.resolver.calls != calls || p.Status.UnfinishedAttempts != 2 || wait < time.Minute || wait > 2*time.Minute {
		t.Fatalf("after two: %d calls, %d attempts without an end, next in %s; want none, 2, and one to two minutes", w.resolver.calls-calls, p.Status.UnfinishedAttempts, wait)
	}
	w.advance(2 * time.Minute)
	if p, _ = w.profile(); !p.IsReady() || p.Status.UnfinishedAttempts != 0 {
		t.Errorf("a model that was not to blame: ready %v, %d attempts without an end", p.IsReady(), p.Status.UnfinishedAttempts)
	}
}

// TestAttemptsThatEndLeaveNothing: failures and stops in order are no reason to wait after a restart.
func TestAttemptsThatEndLeaveNothing(t *testing.T) {
	w := newWorld(t, modelPod("a"))
	w.pod("a")
	w.resolver.err = &modelsource.Error{Reason: modelsource.NotFound, Message: "no such model"}
	if p, _ := w.profile(); p.Status.UnfinishedAttempts != 0 || p.Status.LastAttemptTime == nil {
		t.Errorf("a failure: %d attempts without an end, last %v", p.Status.UnfinishedAttempts, p.Status.LastAttemptTime)
	}
	w.restarted()
	ctx, stop := context.WithCancel(t.Context())
	w.resolver.during = stop
	name := berthv1alpha1.ModelProfileName(source)
	if _, err := w.profiles.Reconcile(ctx, request("", name)); !errors.Is(err, context.Canceled) {
		t.Errorf("a stop: error %v", err)
	}
	var p berthv1alpha1.ModelProfile
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: name}, &p); err != nil || p.Status.UnfinishedAttempts != 0 {
		t.Errorf("a stop: %d attempts without an end, error %v", p.Status.UnfinishedAttempts, err)
	}
}
