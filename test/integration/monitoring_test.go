// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestPrometheusBesideALab: each part of the lab is scraped, also after it was killed, each series that alerts, rules and
// dashboards are about has data, and in a lab where all is well no alert is even pending.
func TestPrometheusBesideALab(t *testing.T) {
	program := findTool(t, "prometheus", "prometheus")
	lab := harness.Start(t, "--nodes", "2", "--gpus", "1", "--monitoring", "--prometheus", program, "--monitoring-address", "127.0.0.1:0")
	client, err := api.NewClient(api.Config{Address: "http://" + lab.Argument(t, "prometheus", "--web.listen-address=")})
	if err != nil {
		t.Fatal(err)
	}
	m := monitored{t, prometheus.NewAPI(client)}
	lab.WaitReady(t, harness.Create(t, lab, berthtesting.MakePod("server").Memory("20Gi").Obj()))

	all := map[string]string{"berth-scheduler": "up", "berth-controller": "up", "berth-agent gpu-0": "up", "berth-agent gpu-1": "up"}
	m.waitTargets(all)
	queries := m.recorded()
	if len(queries) < 7 {
		t.Errorf("the rules record only %q", queries)
	}
	queries = append(queries, fleetMetrics(t)...)
	queries = append(queries,
		`berth_gpu_healthy{job="berth-agent", node="gpu-1"}`,
		`berth_namespace_gpu_memory_booked_bytes{namespace="default"}`, // what the metric says is not renamed
	)
	for _, query := range queries {
		m.waitData(query)
	}
	m.waitNoAlert()
	m.waitDashboards("gpu-1")

	before := lab.Argument(t, "scheduler", "--secure-port=")
	if err := syscall.Kill(lab.Child(t, "scheduler"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.waitData(`up{job="berth-scheduler", instance!="127.0.0.1:` + before + `"} == 1`)
	m.waitTargets(all)
}

// monitored asks the Prometheus beside a lab.
type monitored struct {
	t   *testing.T
	api prometheus.API
}

// dataTimeout is how long data may take: GiB-hours are counted by whole minutes.
const dataTimeout = 3 * time.Minute

// wait waits until a condition is met.
func (m *monitored) wait(what string, met func(context.Context) (bool, string)) {
	m.t.Helper()
	for deadline := time.Now().Add(dataTimeout); ; time.Sleep(time.Second) {
		ok, state := met(m.t.Context())
		if ok {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not within %s: %s; %s", dataTimeout, what, state)
		}
	}
}

func (m *monitored) waitTargets(want map[string]string) {
	m.t.Helper()
	m.wait("all targets are up, and no others are there", func(ctx context.Context) (bool, string) {
		targets, err := m.api.Targets(ctx)
		if err != nil {
			return false, err.Error()
		}
		got := map[string]string{}
		for _, target := range targets.Active {
			name := strings.TrimSpace(string(target.Labels["job"] + " " + target.Labels["node"]))
			got[name] = strings.TrimSpace(string(target.Health) + " " + target.LastError)
		}
		diff := cmp.Diff(want, got)
		return diff == "" && len(targets.Active) == len(want), diff
	})
}

// recorded returns what the rules record.
func (m *monitored) recorded() []string {
	m.t.Helper()
	rules, err := m.api.Rules(m.t.Context(), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	var names []string
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if recording, ok := rule.(prometheus.RecordingRule); ok {
				names = append(names, recording.Name)
			}
		}
	}
	return names
}

func (m *monitored) waitData(query string) {
	m.t.Helper()
	m.wait(query+" returns data", func(ctx context.Context) (bool, string) {
		value, _, err := m.api.Query(ctx, query, time.Now())
		if err != nil {
			return false, err.Error()
		}
		return value.String() != "", "it returns none"
	})
}

// waitNoAlert waits until each rule was evaluated without an error, and no alert is pending or fires.
func (m *monitored) waitNoAlert() {
	m.t.Helper()
	m.wait("no alert is pending", func(ctx context.Context) (bool, string) {
		rules, err := m.api.Rules(ctx, nil)
		if err != nil {
			return false, err.Error()
		}
		alerts := 0
		var wrong []string
		for _, group := range rules.Groups {
			for _, rule := range group.Rules {
				switch rule := rule.(type) {
				case prometheus.AlertingRule:
					alerts++
					if rule.Health != prometheus.RuleHealthGood || len(rule.Alerts) > 0 {
						wrong = append(wrong, fmt.Sprintf("%s: %s %s %v", rule.Name, rule.Health, rule.LastError, rule.Alerts))
					}
				case prometheus.RecordingRule:
					if rule.Health != prometheus.RuleHealthGood {
						wrong = append(wrong, fmt.Sprintf("%s: %s %s", rule.Name, rule.Health, rule.LastError))
					}
				}
			}
		}
		return alerts > 0 && len(wrong) == 0, fmt.Sprintf("%d alerts, %q", alerts, wrong)
	})
}

// fleetMetrics returns the names of the fleet's metrics, of the table.
func fleetMetrics(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(berth_fleet_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		names = append(names, row[1])
	}
	if len(names) < 10 {
		t.Fatalf("the table has only %q", names)
	}
	return names
}
