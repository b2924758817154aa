// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
)

const (
	// maxScrapes are answered at once, and of one address maxScrapesOfOne: who asks with tokens that nobody knows must not
	// have all.
	maxScrapes, maxScrapesOfOne = 16, 4
	// reviewQPS bounds the questions who somebody is: a flood of tokens that nobody knows is no flood for the API server.
	// Answers are kept for a minute.
	reviewQPS, reviewBurst = 5, 10
	// refusalsLogged is how often it is logged that the API server did not say who somebody is.
	refusalsLogged = time.Minute
)

// authorized lets only those through of whom the API server says who they are, and that they may get the path.
func authorized(config *rest.Config, handler http.Handler) (http.Handler, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = reviewQPS, reviewBurst
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	filter, err := filters.WithAuthenticationAndAuthorization(config, client)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	log := klog.Background()
	return filter(log.WithSink(rarely{log.GetSink(), rate.NewLimiter(rate.Every(refusalsLogged), 1)}), handler)
}

// rarely is a log to which errors go only now and then: whoever reaches the port makes one with each token that nobody
// knows.
type rarely struct {
	logr.LogSink
	limit *rate.Limiter
}

// Error implements logr.LogSink.
func (s rarely) Error(err error, message string, keysAndValues ...any) {
	if s.limit.Allow() {
		s.LogSink.Error(err, message, keysAndValues...)
	}
}

// gate answers only so many requests at once, all in all and of one address, and refuses others.
type gate struct {
	handler         http.Handler
	most, ofAddress int

	mu        sync.Mutex
	all       int
	addresses map[string]int
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !g.enter(address) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
		return
	}
	defer g.leave(address)
	g.handler.ServeHTTP(w, r)
}

func (g *gate) enter(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.most || g.addresses[address] >= g.ofAddress {
		return false
	}
	if g.addresses == nil {
		g.addresses = map[string]int{}
	}
	g.all++
	g.addresses[address]++
	return true
}

func (g *gate) leave(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.addresses[address]--; g.addresses[address] == 0 {
		delete(g.addresses, address)
	}
}
