// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// queue is turns whose woken profiles the test collects.
func queue(t *testing.T, total int) (*turns, func() []string) {
	t.Helper()
	q := newTurns(total)
	var woken []string
	q.wake = func(profile string) { woken = append(woken, profile) }
	return q, func() []string {
		defer func() { woken = nil }()
		return woken
	}
}

// TestHostsThatNeverAnswerCostOnlyThoseWhoNameThem is attack 9: 40 pods that name hosts that are silent.
func TestHostsThatNeverAnswerCostOnlyThoseWhoNameThem(t *testing.T) {
	for name, flood := range map[string]func(i int) (host, namespace string){
		"one host, from one namespace":     func(int) (string, string) { return "silent", "mallory" },
		"one host, from many namespaces":   func(i int) (string, string) { return "silent", fmt.Sprintf("mallory-%d", i) },
		"40 hosts, from one namespace":     func(i int) (string, string) { return fmt.Sprintf("silent-%d", i), "mallory" },
		"the victim's host, from one only": func(int) (string, string) { return "hub", "mallory" },
	} {
		t.Run(name, func(t *testing.T) {
			q, _ := queue(t, 8)
			for i := range 40 {
				host, ns := flood(i)
				q.take(fmt.Sprintf("m%d", i), host, []string{ns})
			}
			if !q.take("victim", "hub", []string{"alice"}) {
				t.Errorf("it has to wait for %v", q.taken)
			}
		})
	}
}

// TestFirstTurnOfANamespaceIsBeforeTheSecondOfAnother: those who hold all turns wait for more of them.
func TestFirstTurnOfANamespaceIsBeforeTheSecondOfAnother(t *testing.T) {
	q, woken := queue(t, 8)
	for i := range 40 {
		q.take(fmt.Sprintf("m%d", i), fmt.Sprintf("silent-%d", i), []string{fmt.Sprintf("mallory-%d", i%4)})
	}
	if q.take("victim", "hub", []string{"alice"}) {
		t.Fatal("four namespaces do not hold all turns")
	}
	q.done("m0")
	if diff := cmp.Diff([]string{"victim"}, woken()); diff != "" {
		t.Errorf("woken (-want +got):\n%s", diff)
	}
}

func TestProfileOfManyNamespacesIsChargedToOneThatHasATurnLeft(t *testing.T) {
	q, _ := queue(t, 4) // one for each namespace
	if !q.take("m", "a", []string{"mallory"}) || !q.take("shared", "b", []string{"mallory", "alice"}) {
		t.Error("it waits for the turn of one namespace though another has one left")
	}
	if q.take("own", "b", []string{"alice"}) {
		t.Error("a namespace has two turns of four")
	}
}

func TestNamespacesTakeTurnsAndTheirHostsWithinThem(t *testing.T) {
	q, woken := queue(t, 1)
	q.take("first", "x", []string{"z"})
	for i := range 3 {
		q.take(fmt.Sprintf("a-slow-%d", i), "slow", []string{"a"})
	}
	q.take("a-fast", "fast", []string{"a"})
	q.take("b-0", "slow", []string{"b"})
	q.take("b-1", "slow", []string{"b"})
	order := []string{}
	for now := "first"; ; {
		q.done(now)
		next := woken()
		if len(next) == 0 {
			break
		}
		if len(next) > 1 || !q.take(next[0], "", nil) {
			t.Fatalf("%v were woken, want one at a time, which has its turn", next)
		}
		now = next[0]
		order = append(order, now)
	}
	want := []string{"a-slow-0", "b-0", "a-fast", "b-1", "a-slow-1", "a-slow-2"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if len(q.last)+len(q.taken)+len(q.waiting) != 0 {
		t.Errorf("something is remembered when all are done: %v %v %v", q.last, q.taken, q.waiting)
	}
}

// TestNobodyWhoComesAgainAndAgainOvertakesWhoWaits: each of the newcomers is another namespace.
func TestNobodyWhoComesAgainAndAgainOvertakesWhoWaits(t *testing.T) {
	q, woken := queue(t, 1)
	q.take("running", "x", []string{"z"})
	q.take("z-waits", "x", []string{"z"}) // which had the last turn
	now, served := "running", []string{}
	for i := range 5 {
		newcomer := fmt.Sprintf("new-%d", i)
		q.take(newcomer, "x", []string{newcomer})
		q.done(now)
		next := woken()
		if len(next) != 1 {
			t.Fatalf("%v were woken", next)
		}
		now = next[0]
		served = append(served, now)
	}
	if !slices.Contains(served[:2], "z-waits") {
		t.Errorf("order %v, want that who waited comes at once", served)
	}
}

func TestWhoGivesUpMakesRoom(t *testing.T) {
	q, woken := queue(t, 1)
	q.take("a", "x", []string{"a"})
	if q.take("b", "x", []string{"b"}) || q.take("c", "x", []string{"c"}) || q.take("b", "x", []string{"b"}) {
		t.Fatal("more than one has the only turn")
	}
	q.done("b") // deleted
	q.done("a")
	if diff := cmp.Diff([]string{"c"}, woken()); diff != "" {
		t.Errorf("woken (-want +got):\n%s", diff)
	}
}

func TestProfileIsLookedUpWhenItIsItsTurn(t *testing.T) {
	w := newWorld(t, modelPod("p"))
	w.pod("p")
	var woken func() []string
	w.profiles.turns, woken = queue(t, 1)
	w.profiles.turns.take("another", "slow", []string{"mallory"})
	if p, next := w.profile(); p.ReadyCondition() != nil || w.resolver.calls != 0 || next != waitForTurn {
		t.Fatalf("condition %+v, %d look-ups, next in %v: want that it waits", p.ReadyCondition(), w.resolver.calls, next)
	}
	w.profiles.turns.done("another")
	if diff := cmp.Diff([]string{berthv1alpha1.ModelProfileName(source)}, woken()); diff != "" {
		t.Fatalf("woken (-want +got):\n%s", diff)
	}
	if p, _ := w.profile(); !p.IsReady() {
		t.Errorf("condition %+v, want that it is ready", p.ReadyCondition())
	}
	if len(w.profiles.turns.taken)+len(w.profiles.turns.waiting) != 0 {
		t.Errorf("turns %v, and %v wait, when all is done", w.profiles.turns.taken, w.profiles.turns.waiting)
	}
	// One that goes while it waits is no longer in the way.
	w.profiles.turns.take("another", "slow", []string{"mallory"})
	w.advance(24 * time.Hour)
	p, _ := w.profile()
	w.delete(p)
	w.profile()
	if len(w.profiles.turns.waiting) != 0 {
		t.Errorf("%v wait, though it is gone", w.profiles.turns.waiting)
	}
}
