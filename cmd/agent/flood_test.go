// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// agentLimit is the memory that the shipped DaemonSet gives the agent.
const agentLimit = 200 << 20

// The attack is 12,000 connections of keep-alive that say nothing more: the agent grew from 29 to 259 MB and never closed
// them. A dead agent keeps new pods from its node.
func TestAgentSurvivesThousandsOfIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 12,000 connections")
	}
	m := newMachine(t)
	m.server.Token("prometheus", true)
	address := freeAddress(t)
	m.start("--listen-address="+address, "--lease-interval=1s")
	m.until("the first report", m.allRight)
	before := residentBytes(t, m.agent.Process.Pid)

	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range connections(t, 12000) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if i%12 == 0 { // one that has asked something, and goes on holding the connection
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			// That the agent ends it meanwhile is its right.
			_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: agent\r\n\r\n")
		}
		conns = append(conns, conn)
	}
	after := residentBytes(t, m.agent.Process.Pid)
	t.Logf("%d connections: %d MiB, then %d MiB", len(conns), before>>20, after>>20)
	if after > agentLimit {
		t.Errorf("the agent holds %d MiB, of %d MiB", after>>20, agentLimit>>20)
	}
	for path, token := range map[string]string{"/healthz": "", "/metrics": "prometheus"} {
		if code, _ := scrape(t, "https://"+address+path, token); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	_, renewals := m.server.Lease()
	m.until("the Lease is renewed", func() bool { _, n := m.server.Lease(); return n > renewals })
	m.use(0, 100, 1, gib)
	m.apply()
	m.until("what changes is reported", m.allRight)
}

// connections returns how many of the wanted ones this process may open.
func connections(t *testing.T, want int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const others = 500 // that the test has open otherwise
	if limit.Cur < 2*others {
		t.Skipf("%d files can be open", limit.Cur)
	}
	return min(want, int(limit.Cur)-others)
}

// from returns a client whose address is another one of this machine.
func from(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
}

// The attack is a flood of tokens that nobody knows, about each of which the API server has to be asked.
func TestFloodOfTokensIsNoFloodForTheAPIServer(t *testing.T) {
	m := newMachine(t)
	m.server.Token("prometheus", true)
	address := freeAddress(t)
	m.start("--listen-address=" + address)
	m.until("the first report", m.allRight)
	ask := func(client *http.Client, token string) (int, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/metrics", nil)
		if err != nil {
			return 0, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}

	mallory, prometheus := from("127.0.0.2"), from("127.0.0.3")
	for range 50 {
		if code, err := ask(mallory, "always-the-same"); err != nil || code == http.StatusOK {
			t.Fatalf("a token that nobody knows: %d, %v", code, err)
		}
	}
	if n := m.server.Reviews(); n != 1 {
		t.Errorf("the API server was asked %d times about one token", n)
	}

	const requests, atOnce = 400, 40
	var flood sync.WaitGroup
	tokens, codes := make(chan string), make(chan int, requests)
	for range atOnce {
		flood.Go(func() {
			for token := range tokens {
				if code, err := ask(mallory, token); err == nil {
					codes <- code
				}
			}
		})
	}
	for i := range requests {
		tokens <- fmt.Sprint("guess-", i)
		if i == requests/2 {
			if code, err := ask(prometheus, "prometheus"); err != nil || code != http.StatusOK {
				t.Errorf("who may have the metrics gets %d, %v", code, err)
			}
		}
	}
	close(tokens)
	flood.Wait()
	close(codes)
	got := map[int]int{}
	for code := range codes {
		got[code]++
	}
	t.Logf("answers by code: %v; %d questions for the API server", got, m.server.Reviews())
	if got[http.StatusServiceUnavailable] == 0 || got[http.StatusOK] != 0 || m.server.Reviews() > requests/4 {
		t.Errorf("answers by code: %v; %d questions for the API server", got, m.server.Reviews())
	}
}

// Older manifests of the agent, and simple clusters.
func TestMetricsCanBeServedToAll(t *testing.T) {
	m := newMachine(t)
	address := freeAddress(t)
	m.start("--listen-address="+address, "--secure-metrics=false", "--overuse-margin=1Gi")
	m.until("the first report", m.allRight)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		client := http.Client{Timeout: 10 * time.Second}
		response, err := client.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
}
