// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conncap bounds the connections of an HTTP server, so that whoever opens many neither fills its memory nor keeps
// others out. A listener that just waits at its limit (netutil.LimitListener) would let him do the latter: the kubelet's
// probes would wait too, and the server would be killed. Here a connection that comes when there are too many ends another
// that only waits: one of the address that has most, the one that has waited longest.
package conncap

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Cap bounds the connections of one server, by whose ConnState it hears of them.
type Cap struct {
	most int

	mu    sync.Mutex
	conns map[net.Conn]*state
	// count is by address; turn numbers the moments at which a connection began to wait.
	count map[string]int
	turn  uint64
}

type state struct {
	from string
	// waiting says that no request of it is being answered: none has come whole, or the last one has its answer.
	waiting bool
	since   uint64
}

// New returns a bound of that many connections.
func New(most int) *Cap {
	return &Cap{most: most, conns: map[net.Conn]*state{}, count: map[string]int{}}
}

// ConnState is for the server's field of this name.
func (c *Cap) ConnState(conn net.Conn, to http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch to {
	case http.StateNew:
		c.turn++
		from := host(conn)
		c.conns[conn] = &state{from: from, waiting: true, since: c.turn}
		c.count[from]++
		for len(c.conns) > c.most {
			c.end(c.victim(conn))
		}
	case http.StateActive, http.StateIdle:
		if s := c.conns[conn]; s != nil {
			c.turn++
			s.waiting, s.since = to == http.StateIdle, c.turn
		}
	case http.StateClosed, http.StateHijacked:
		c.forget(conn)
	}
}

// victim returns the connection that has to end for a new one: itself, if all others are being answered.
func (c *Cap) victim(newest net.Conn) net.Conn {
	out := newest
	var best *state
	for conn, s := range c.conns {
		if conn == newest || !s.waiting {
			continue
		}
		if best == nil || c.count[s.from] > c.count[best.from] || c.count[s.from] == c.count[best.from] && s.since < best.since {
			out, best = conn, s
		}
	}
	return out
}

func (c *Cap) end(conn net.Conn) {
	c.forget(conn)
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn() // a farewell would wait for who does not read
	}
	_ = conn.Close()
}

func (c *Cap) forget(conn net.Conn) {
	s := c.conns[conn]
	if s == nil {
		return
	}
	delete(c.conns, conn)
	if c.count[s.from]--; c.count[s.from] == 0 {
		delete(c.count, s.from)
	}
}

func host(conn net.Conn) string {
	address := conn.RemoteAddr().String()
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
