// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
)

// lists keeps what an API server answered, so that all answers of a revision are of the same objects, and a list is read once for
// all of them. It stands below the client that the commands have: what they do with what they read is the same.
type lists struct {
	mu   sync.Mutex
	kept map[string]*kept
}

// keeper asks where nothing is kept.
type keeper struct {
	lists *lists
	next  http.RoundTripper
}

// kept is the answer to one request. Whoever holds its place in turn may ask for it.
type kept struct {
	resource string
	turn     chan struct{}
	status   int
	header   http.Header
	body     []byte
}

func newLists() *lists { return &lists{kept: map[string]*kept{}} }

// drop forgets the answers about resources. One that is under way is not kept: it may be of before a change.
func (l *lists) drop(of func(resource string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, k := range l.kept {
		if of(k.resource) {
			delete(l.kept, key)
		}
	}
}

// has says whether something of a resource was read.
func (l *lists) has(resource string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.kept {
		if k.resource == resource {
			return true
		}
	}
	return false
}

func (l *keeper) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet || request.URL.Query().Has("watch") || strings.HasSuffix(request.URL.Path, "/log") {
		return l.next.RoundTrip(request)
	}
	k := l.lists.of(request)
	if err := k.take(request.Context()); err != nil {
		return nil, err
	}
	defer k.give()
	if k.header != nil {
		return k.response(request), nil
	}
	response, err := l.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	// What is refused is refused in the same words for all. Errors that may pass are not kept.
	if s := response.StatusCode; s != http.StatusOK && s != http.StatusForbidden && s != http.StatusNotFound {
		return response, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	first := response.Header.Clone()
	k.status, k.header, k.body = response.StatusCode, response.Header, body
	k.header.Del("Date") // by which the client reads the server's clock; later it is of another time
	out := k.response(request)
	out.Header = first
	return out, nil
}

// of returns the place of the answer to a request.
func (l *lists) of(request *http.Request) *kept {
	key := request.Header.Get("Accept") + " " + request.URL.String()
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kept[key]
	if k == nil {
		k = &kept{resource: path.Base(request.URL.Path), turn: make(chan struct{}, 1)}
		l.kept[key] = k
	}
	return k
}

func (k *kept) take(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *kept) give() { <-k.turn }

func (k *kept) response(request *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(k.status), StatusCode: k.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: k.header.Clone(), Body: io.NopCloser(bytes.NewReader(k.body)), ContentLength: int64(len(k.body)), Request: request,
	}
}
