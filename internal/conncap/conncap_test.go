// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package conncap

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// client is a connection from an address of this machine.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, server *httptest.Server, from string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t, conn, bufio.NewReader(conn)}
}

// ask sends a request and reads the answer; false if the connection is over.
func (c *client) ask(path string) bool {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	return c.read()
}

func (c *client) read() bool {
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.Body.Close() == nil
}

// ended waits until the server ended the connection.
func (c *client) ended() bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := c.in.ReadByte()
	return err != nil && !isTimeout(err)
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// newServer returns a server of so many connections. Its path /slow answers once something comes from release.
func newServer(t *testing.T, most int) (server *httptest.Server, slow, release chan struct{}) {
	slow, release = make(chan struct{}), make(chan struct{})
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			slow <- struct{}{}
			<-release
		}
	}))
	server.Config.ConnState = New(most).ConnState
	server.Start()
	t.Cleanup(server.Close)
	return server, slow, release
}

const mallory, prometheus, kubelet = "127.0.0.2", "127.0.0.3", "127.0.0.4"

func TestWhoHasMostConnectionsLosesTheOldest(t *testing.T) {
	server, _, _ := newServer(t, 4)
	scraper := dial(t, server, prometheus)
	if !scraper.ask("/") {
		t.Fatal("not answered")
	}
	var flood []*client
	for range 20 {
		flood = append(flood, dial(t, server, mallory))
	}
	for i, c := range flood[:17] {
		if !c.ended() {
			t.Errorf("connection %d of the flood is open", i)
		}
	}
	if !scraper.ask("/") {
		t.Error("the connection that was there before the flood is over")
	}
	if !dial(t, server, kubelet).ask("/") {
		t.Error("who comes after the flood is not answered")
	}
	if !flood[19].ask("/") || !flood[18].ask("/") {
		t.Error("more connections are over than have to be")
	}
}

func TestConnectionThatIsBeingAnsweredIsLeftAlone(t *testing.T) {
	server, slow, release := newServer(t, 2)
	var busy []*client
	for range 2 {
		c := dial(t, server, mallory)
		if _, err := io.WriteString(c.conn, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-slow
		busy = append(busy, c)
	}
	if !dial(t, server, kubelet).ended() {
		t.Error("there are more connections than there may be")
	}
	for i, c := range busy {
		release <- struct{}{}
		if !c.read() {
			t.Errorf("request %d got no answer", i)
		}
	}
	if !dial(t, server, kubelet).ask("/") {
		t.Error("not answered when there is room again")
	}
}

func TestConnectionsThatEndAreForgotten(t *testing.T) {
	limit := New(4)
	a, b := net.Pipe()
	defer b.Close()
	for _, s := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateClosed, http.StateClosed} {
		limit.ConnState(a, s)
	}
	if len(limit.conns) != 0 || len(limit.count) != 0 {
		t.Errorf("remembered: %v, %v", limit.conns, limit.count)
	}
}
