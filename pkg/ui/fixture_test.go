// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// files are a page.
var files = fstest.MapFS{
	"index.html":    {Data: []byte("<!doctype html><title>page</title>")},
	"assets/app.js": {Data: []byte("export {}")},
	"secret":        {Data: []byte("beside the assets")},
}

// look is the snapshot that is shipped.
var look = filepath.Join("..", "..", "hack", "look", "cluster.json.gz")

// served is a server, and a client of it.
type served struct {
	t           *testing.T
	host, token string
	server      *Server
	stop        context.CancelFunc
	ended       chan error
	client      *http.Client
}

// serve serves a world as kubectl berth ui does.
func serve(t *testing.T, world *World) *served {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	listener, err := Listen(ctx, "127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, host: listener.Addr().String(), token: NewToken(), stop: stop, ended: make(chan error, 1)}
	if s.server, err = NewServer(world, files, s.token, s.host); err != nil {
		t.Fatal(err)
	}
	followed := make(chan struct{})
	go func() { world.Run(ctx); close(followed) }()
	go func() { s.ended <- s.server.Serve(ctx, listener, log.New(io.Discard, "", 0)) }()
	transport := &http.Transport{}
	s.client = &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		<-followed
	})
	return s
}

func ofLook(t *testing.T) *World {
	t.Helper()
	world, err := OfFile(look, "default")
	if err != nil {
		t.Fatal(err)
	}
	return world
}

// ask makes a request with the token, which change may change.
func (s *served) ask(method, path, body string, change func(*http.Request)) (*http.Response, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.host+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(request)
	}
	response, err := s.client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, string(text)
}

// get returns a document.
func (s *served) get(path string) map[string]any {
	s.t.Helper()
	response, text := s.ask(http.MethodGet, path, "", nil)
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s: %v\n%s", path, response.Status, err, text)
	}
	return doc
}
