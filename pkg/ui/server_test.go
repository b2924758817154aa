// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"log"
	"net"
	"testing"
	"testing/fstest"
)

func TestAServerEndsThoughABrowserHasAskedNothingYet(t *testing.T) {
	listener, err := Listen(t.Context(), "127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(nil, fstest.MapFS{}, NewToken(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener, log.New(t.Output(), "", 0)) }()
	ahead, err := net.Dial("tcp", listener.Addr().String()) // as browsers do, to be faster later
	if err != nil {
		t.Fatal(err)
	}
	defer ahead.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}
