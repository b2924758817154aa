// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/berth-dev/berth/internal/conncap"
	"github.com/berth-dev/berth/internal/version"
)

const (
	// A page asks a few questions at once, each of its own connection at most.
	maxConnections = 64
	// maxAsking is how many questions of a kind wait for their turn.
	maxAsking = 32
	// maxStreams is how many pages are told of changes.
	maxStreams = 16
	// askTimeout is how long an answer may take, and endTimeout how long requests may when the server ends.
	askTimeout = time.Minute
	endTimeout = 3 * time.Second
	// maxBody is the longest question, in bytes, and bodyTimeout how long it may take to come. (A ReadTimeout of the server would end
	// answers too that take longer: who waits for one is being read from, to see whether he is still there.)
	maxBody     = 1 << 20
	bodyTimeout = 10 * time.Second
)

// Server answers the page.
type Server struct {
	world    *World
	page     fs.FS
	guard    *guard
	answered answered
	// looks are answers from what is read, and simulations those that run the scheduler, one after the other: its feature
	// gates are the process's.
	looks, simulations *gate
	streams            atomic.Int32
	handler            http.Handler
}

// NewServer returns the server of a world, with the files of the page, that lets in who has the token. It listens at an address.
func NewServer(world *World, page fs.FS, token, address string) (*Server, error) {
	g, err := newGuard(token, address)
	if err != nil {
		return nil, err
	}
	s := &Server{world: world, page: page, guard: g, looks: newGate(2), simulations: newGate(1)}
	s.handler = g.wrap(s.routes())
	return s, nil
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers on a listener until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener, problems *log.Logger) error {
	server := &http.Server{
		Handler: s, ErrorLog: problems, ConnState: conncap.New(maxConnections).ConnState,
		ReadHeaderTimeout: bodyTimeout, WriteTimeout: askTimeout + 10*time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
		// What is being answered ends with the server.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		// Browsers keep connections on which they have asked nothing yet, for which it waits.
		if err := server.Close(); err != nil {
			return err
		}
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Listen listens at an address, which has to be a loopback one: who can reach it has to be on this machine.
func Listen(ctx context.Context, host string, port int) (net.Listener, error) {
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%s is no loopback address: the page is for this machine only; use 127.0.0.1, and ssh -L from elsewhere", host)
	}
	if port < 0 || port > 65535 {
		return nil, fmt.Errorf("%d is no port", port)
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, fmt.Sprint(port)))
}

func (s *Server) session() Session {
	out := s.world.session
	out.TypeMeta, out.Version, out.Live = typeOf(KindSession), version.String(), s.world.live()
	out.Revision, _ = s.world.revisions.now()
	return out
}

// gate lets a few through at once, and some wait.
type gate struct {
	slots  chan struct{}
	asking atomic.Int32
}

func newGate(slots int) *gate { return &gate{slots: make(chan struct{}, slots)} }

// do calls f when it is its turn.
func (g *gate) do(ctx context.Context, f func(context.Context) (any, error)) (any, error) {
	if g.asking.Add(1) > maxAsking {
		g.asking.Add(-1)
		return nil, errBusy
	}
	defer g.asking.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
		return f(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
