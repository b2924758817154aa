// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// changing stands before a kubectl berth ui whose snapshot never changes, and tells the page of changes all the same.
type changing struct {
	*httptest.Server
	mu       sync.Mutex
	revision int
	change   func(map[string]any)
	told     chan struct{}
	cut      chan struct{}
	down     bool
}

func newChanging(t *testing.T, s *server) *changing {
	c := &changing{revision: 1, change: func(map[string]any) {}, told: make(chan struct{}), cut: make(chan struct{})}
	real := &url.URL{Scheme: "http", Host: s.address.Host}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(real)
		r.Out.Host = real.Host
		r.Out.Header.Del("Origin")
		r.Out.Header.Del("If-None-Match")
	}}
	mux := http.NewServeMux()
	mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		down := c.down
		c.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	mux.HandleFunc("/api/v1/session", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"version":"v0","context":"kind-berth","server":"https://127.0.0.1:6443","namespace":"default","live":"watch","revision":1}`))
	})
	mux.HandleFunc("/api/v1/map", func(w http.ResponseWriter, _ *http.Request) {
		var m map[string]any
		decode(t, s.ask(t, "GET", "/map", nil), &m)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.change(m)
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, c.revision))
		_ = json.NewEncoder(w).Encode(m)
	})
	mux.HandleFunc("/api/v1/changes", c.changes)
	c.Server = httptest.NewServer(mux)
	t.Cleanup(func() { c.CloseClientConnections(); c.Close() })
	return c
}

// changes is the stream of the changes.
func (c *changing) changes(w http.ResponseWriter, r *http.Request) {
	for {
		c.mu.Lock()
		revision, told, cut, down := c.revision, c.told, c.cut, c.down
		c.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "event: revision\ndata: {\"revision\":%d}\n\n", revision)
		w.(http.Flusher).Flush()
		select {
		case <-told:
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

// tell changes the map.
func (c *changing) tell(change func(map[string]any)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision, c.change = c.revision+1, change
	close(c.told)
	c.told = make(chan struct{})
}

// setDown loses the connection, or lets it come back.
func (c *changing) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	if down {
		close(c.cut)
		c.cut = make(chan struct{})
	}
}

// TestPageFollowsChanges sees changes without reloading, and says when it does not see them any more, and since when.
func TestPageFollowsChanges(t *testing.T) {
	s := serve(t, smallFile(t))
	c := newChanging(t, s)
	b := openTab(t, wide)
	b.visit(c.URL + "/?" + s.address.RawQuery + "#/fleet")
	b.until(`document.querySelector('.live').innerText.startsWith('Live: kind-berth')`)
	b.shows("4 pods")
	c.tell(func(m map[string]any) {
		m["pendingPods"] = m["pendingPods"].([]any)[:1]
		m["time"] = time.Now().UTC().Format(time.RFC3339)
	})
	b.until(`document.querySelector('.figures a').innerText === '1 pod'`)
	b.until(`document.querySelector('[aria-live]').innerText === '1 pod waits now.'`)
	if got := eval[string](b, `document.querySelector('.badge').innerText`); got[:1] != "1" {
		t.Errorf("the badge says %q", got)
	}
	c.setDown(true)
	b.until(`/^Connection lost \d+s ago, data of /.test(document.querySelector('.live').innerText)`)
	b.until(`document.querySelector('[aria-live]').innerText === 'The connection is lost.'`)
	b.shows("1 pod") // what was known stays
	c.setDown(false)
	c.tell(func(m map[string]any) { m["pendingPods"] = []any{} })
	b.until(`document.querySelector('.live').innerText.startsWith('Live: kind-berth')`)
	b.until(`document.querySelector('.figures').innerText.includes('nobody')`)
}

// TestPageSaysThatItsServerIsGone: a program that ended answers nothing, and the page shows what it knew.
func TestPageSaysThatItsServerIsGone(t *testing.T) {
	s := serve(t, smallFile(t))
	b := openTab(t, wide)
	b.visit(s.at("#/fleet"))
	if err := s.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelector('.live').innerText.startsWith('Connection lost')`)
	b.shows("a100-0")
	b.click(".views a", "Usage")
	b.until(`document.querySelector('[role="alert"]')?.innerText.includes('kubectl berth ui does not answer')`)
}
