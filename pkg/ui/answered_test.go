// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// asking counts questions, each of which is answered when it is told to.
type asking struct {
	began, left atomic.Int32
	answer      chan error
}

func (a *asking) ask(ctx context.Context) (any, error) {
	a.began.Add(1)
	select {
	case err := <-a.answer:
		return "answer", err
	case <-ctx.Done():
		a.left.Add(1)
		return nil, ctx.Err()
	}
}

func TestAnswersAreFoundOnceForARevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept answered
		a := &asking{answer: make(chan error)}
		got := make(chan []byte)
		get := func(ctx context.Context, revision int64) {
			body, err := kept.get(ctx, revision, "key", a.ask)
			if err != nil {
				body = []byte(err.Error())
			}
			got <- body
		}
		go get(t.Context(), 1)
		synctest.Wait()
		go get(t.Context(), 1)
		synctest.Wait()
		a.answer <- nil
		if one, two := <-got, <-got; string(one) != string(two) || a.began.Load() != 1 {
			t.Errorf("%q and %q of %d questions", one, two, a.began.Load())
		}
		go get(t.Context(), 1)
		if <-got; a.began.Load() != 1 {
			t.Error("what is known is asked again")
		}
		go get(t.Context(), 2)
		synctest.Wait()
		if a.answer <- errors.New("no answer"); string(<-got) != "no answer" || a.began.Load() != 2 {
			t.Error("another revision is not asked about")
		}
		go get(t.Context(), 2)
		synctest.Wait()
		if a.answer <- nil; string(<-got) == "no answer" || a.began.Load() != 3 {
			t.Error("an error is kept")
		}
	})
}

func TestAnAnswerIsGivenUpWhenNobodyWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept answered
		a := &asking{answer: make(chan error)}
		wait := func() (leave func(), gone chan struct{}) {
			ctx, cancel := context.WithCancel(t.Context())
			gone = make(chan struct{})
			go func() {
				defer close(gone)
				if _, err := kept.get(ctx, 1, "key", a.ask); !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
			}()
			synctest.Wait()
			return cancel, gone
		}
		leaveOne, oneGone := wait()
		leaveTwo, twoGone := wait()
		leaveOne()
		<-oneGone
		if synctest.Wait(); a.left.Load() != 0 {
			t.Error("it is given up although somebody waits")
		}
		leaveTwo()
		<-twoGone
		if kept.answers["key"] != nil {
			t.Error("who comes now is told that others have left")
		}
		if synctest.Wait(); a.left.Load() != 1 {
			t.Error("it is looked for although nobody waits")
		}
	})
}

func TestAPanicEndsItsQuestionOnly(t *testing.T) {
	var kept answered
	ask := func(panics bool) (recovered any) {
		defer func() { recovered = recover() }()
		_, err := kept.get(t.Context(), 1, "key", func(context.Context) (any, error) {
			if panics {
				panic("out of range")
			}
			return nil, nil
		})
		if err != nil {
			t.Error(err)
		}
		return nil
	}
	if text, _ := ask(true).(string); !strings.Contains(text, "out of range") || !strings.Contains(text, "answered_test.go") {
		t.Errorf("it is told %q", text)
	}
	if got := ask(false); got != nil {
		t.Errorf("the next one: %v", got)
	}
}

func TestOnlySoManyQuestionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		release := make(chan struct{})
		var inside, most atomic.Int32
		for range maxAsking {
			go func() {
				_, err := g.do(t.Context(), func(context.Context) (any, error) {
					most.Store(max(most.Load(), inside.Add(1)))
					<-release
					inside.Add(-1)
					return nil, nil
				})
				if err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		if _, err := g.do(t.Context(), nil); !errors.Is(err, errBusy) || statusOf(err) != http.StatusTooManyRequests {
			t.Errorf("one more: %v", err)
		}
		close(release)
		synctest.Wait()
		if most.Load() != 1 {
			t.Errorf("%d at once", most.Load())
		}
	})
}

func TestWhatIsKnownIsNotSentAgain(t *testing.T) {
	s := serve(t, ofLook(t))
	for _, path := range []string{"/api/v1/map", "/api/v1/pods/default/llama-405b-6b8489b64c-c7mnf/explain"} {
		first, _ := s.ask(http.MethodGet, path, "", nil)
		tag := first.Header.Get("ETag")
		if tag != `"1"` || first.Header.Get("Berth-Revision") != "1" {
			t.Errorf("%s is of %s", path, tag)
		}
		again, text := s.ask(http.MethodGet, path, "", func(r *http.Request) { r.Header.Set("If-None-Match", tag) })
		if again.StatusCode != http.StatusNotModified || text != "" {
			t.Errorf("%s again: %s", path, again.Status)
		}
		s.server.world.revisions.advance(true, func(map[string]bool) {})
		later, _ := s.ask(http.MethodGet, path, "", func(r *http.Request) { r.Header.Set("If-None-Match", tag) })
		if later.StatusCode != http.StatusOK || later.Header.Get("ETag") == tag {
			t.Errorf("%s later: %s of %s", path, later.Status, later.Header.Get("ETag"))
		}
		s.server.world.revisions = newRevisions()
		s.server.answered = answered{}
	}
	asset, _ := s.ask(http.MethodGet, "/assets/app.js", "", nil)
	if kind := asset.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/javascript") {
		t.Errorf("a script is %s", kind)
	}
	again, _ := s.ask(http.MethodGet, "/assets/app.js", "", func(r *http.Request) { r.Header.Set("If-None-Match", asset.Header.Get("ETag")) })
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("a script again: %s", again.Status)
	}
}
