// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/component-base/metrics"

	"github.com/berth-dev/berth/pkg/agent"
)

const (
	// targetsPath is where Prometheus asks what to scrape, and agentsPath is followed by the node of an agent.
	targetsPath = "/targets"
	agentsPath  = "/metrics/agents/"
	// readHeaderTimeout bounds how long a client of the targets may take to ask.
	readHeaderTimeout = 10 * time.Second
)

// targets are where the parts of a lab tell their metrics. Each start of a scheduler or controller takes another port,
// so Prometheus asks for them again and again. Agents have no port of their own: all are asked here.
type targets struct {
	mu sync.Mutex
	// groups are by what they are of: a program, or the agent of a node.
	groups map[string]targetGroup
	agents map[string]http.Handler
	// address is where they are served; empty while they are not.
	address string
}

func newTargets() *targets {
	return &targets{groups: map[string]targetGroup{}, agents: map[string]http.Handler{}}
}

// targetGroup is an element of what Prometheus reads by http_sd_configs.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// setProgram tells where a program is, by the last of its arguments that begins with flag, which has an address, or a port
// of the loopback; 0 is none.
func (t *targets) setProgram(job, scheme, flag string, args []string) {
	for _, arg := range slices.Backward(args) {
		address, ok := strings.CutPrefix(arg, flag)
		if !ok {
			continue
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if address == "0" {
			delete(t.groups, job)
			return
		}
		if !strings.Contains(address, ":") {
			address = net.JoinHostPort(loopback, address)
		}
		t.groups[job] = targetGroup{[]string{address}, map[string]string{"job": job, "__scheme__": scheme}}
		return
	}
}

// setOther has a program scraped that is not the lab's.
func (t *targets) setOther(job, address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.groups[job] = targetGroup{[]string{address}, map[string]string{"job": job, "__scheme__": "http"}}
}

// setAgent has the metrics of an agent told until it is removed.
func (t *targets) setAgent(node string, a *agent.Agent) (remove func()) {
	registry := metrics.NewKubeRegistry()
	registry.CustomMustRegister(a.Collector())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.agents[node] = metrics.HandlerFor(registry, metrics.HandlerOpts{})
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.agents, node)
	}
}

// serve tells on a port of the loopback what there is, until stop is called.
func (t *targets) serve() (stop func(), err error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.address = listener.Addr().String()
	t.mu.Unlock()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+targetsPath, t.tell)
	mux.HandleFunc("GET "+agentsPath+"{node}", t.tellAgent)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: readHeaderTimeout}
	go func() { _ = server.Serve(listener) }() // until it is closed
	return func() { _ = server.Close() }, nil
}

func (t *targets) tell(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(t.all()) // who asked may be gone
}

// all returns all targets, in an order that stays.
func (t *targets) all() []targetGroup {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := []targetGroup{}
	for _, group := range t.groups {
		all = append(all, group)
	}
	for node := range t.agents {
		all = append(all, targetGroup{[]string{t.address}, map[string]string{
			"job": agentAccount, "node": node, "__scheme__": "http", "__metrics_path__": agentsPath + node,
		}})
	}
	slices.SortFunc(all, func(a, b targetGroup) int {
		return cmp.Or(cmp.Compare(a.Labels["job"], b.Labels["job"]), cmp.Compare(a.Labels["node"], b.Labels["node"]))
	})
	return all
}

func (t *targets) tellAgent(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	handler := t.agents[r.PathValue("node")]
	t.mu.Unlock()
	if handler == nil {
		http.Error(w, "no agent runs for this node", http.StatusNotFound)
		return
	}
	handler.ServeHTTP(w, r)
}
