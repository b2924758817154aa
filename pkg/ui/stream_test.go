// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bt "github.com/berth-dev/berth/internal/testing"
)

// follow opens a stream of changes, and returns its lines.
func (s *served) follow(ctx context.Context) (*http.Response, <-chan string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.host+"/api/v1/changes", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	response, err := s.client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		defer response.Body.Close()
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			if line := scanner.Text(); line != "" {
				lines <- line
			}
		}
	}()
	return response, lines
}

func wantLines(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	for _, line := range want {
		select {
		case got := <-lines:
			if got != line {
				t.Fatalf("got %q, want %q", got, line)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q never comes", line)
		}
	}
}

func TestAPageIsToldOfRevisions(t *testing.T) {
	world := ofLook(t)
	s := serve(t, world)
	response, lines := s.follow(t.Context())
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" || response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("it is %q", kind)
	}
	wantLines(t, lines, "event: revision", `data: {"revision":1}`)
	world.revisions.advance(true, func(map[string]bool) {})
	wantLines(t, lines, "event: revision", `data: {"revision":2}`)
	s.stop()
	if err := <-s.ended; err != nil {
		t.Errorf("it does not end well: %v", err)
	}
	if line, more := <-lines; more {
		t.Errorf("more comes: %q", line)
	}
}

func TestAStreamThatIsLeftEnds(t *testing.T) {
	s := serve(t, ofLook(t))
	for range 2 * maxStreams { // more than there may be at once
		ctx, leave := context.WithCancel(t.Context())
		response, lines := s.follow(ctx)
		if response.StatusCode != http.StatusOK {
			t.Fatal(response.Status)
		}
		wantLines(t, lines, "event: revision")
		leave()
		bt.Eventually(t, "the stream ends", func() bool { return s.server.streams.Load() == 0 })
	}
}

func TestOnlySoManyStreams(t *testing.T) {
	s := serve(t, ofLook(t))
	for range maxStreams {
		_, lines := s.follow(t.Context())
		wantLines(t, lines, "event: revision")
	}
	response, _ := s.ask(http.MethodGet, "/api/v1/changes", "", nil)
	if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") != "1" {
		t.Errorf("one more: %s", response.Status)
	}
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		server := &Server{world: &World{revisions: newRevisions()}}
		out, in := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			server.changes(&piped{header: http.Header{}, Writer: in}, (&http.Request{}).WithContext(ctx))
		}()
		began := time.Now()
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), ":") {
				break
			}
		}
		if took := time.Since(began); took != heartbeat {
			t.Errorf("the first comes after %s", took)
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		leave()
		<-ended
		in.Close()
	})
}

// piped is a ResponseWriter into a pipe.
type piped struct {
	io.Writer
	header http.Header
}

func (p *piped) Header() http.Header { return p.header }
func (p *piped) WriteHeader(int)     {}
func (p *piped) FlushError() error   { return nil }

func TestRevisions(t *testing.T) {
	// run returns the times, since the beginning, at which the revision changed within ten minutes, what was dropped, and how.
	run := func(t *testing.T, do func(*revisions)) (at []time.Duration, dropped []map[string]bool) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			r, began := newRevisions(), time.Now()
			go do(r)
			r.run(ctx, func(dirty map[string]bool) {
				at, dropped = append(at, time.Since(began)), append(dropped, dirty)
			})
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Error("it ends early")
			}
		})
		return at, dropped
	}
	t.Run("time alone makes reports stale", func(t *testing.T) {
		at, dropped := run(t, func(*revisions) {})
		if len(at) != 2 || at[0] != atLeast || at[1] != 2*atLeast || dropped[0] != nil {
			t.Errorf("%v %v", at, dropped)
		}
	})
	t.Run("changes are told of once a second at most", func(t *testing.T) {
		at, dropped := run(t, func(r *revisions) {
			for range 50 {
				r.changed("pods")
				time.Sleep(100 * time.Millisecond)
			}
		})
		if len(at) < 6 || at[0] != atMost || at[1] != 2*atMost || at[4] != 5*atMost || !dropped[0]["pods"] || len(dropped[0]) != 1 {
			t.Errorf("%v %v", at, dropped)
		}
	})
	t.Run("where answers are dear, more seldom", func(t *testing.T) {
		at, _ := run(t, func(r *revisions) {
			r.answered(2 * time.Second)
			r.changed("pods")
		})
		if at[0] != pauses*2*time.Second {
			t.Errorf("%v", at)
		}
	})
}
