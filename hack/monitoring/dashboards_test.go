// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package monitoring runs the dashboards' queries by Prometheus' own engine.
package monitoring

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

var root = filepath.Join("..", "..")

// metricRow is a line of the tables of docs/metrics.md: metric, of, type, unit, labels.
var metricRow = regexp.MustCompile("(?m)^\\| `(berth_[a-z_]+)` \\| ([a-z]+) \\| ([a-z]+) \\|[^|]*\\|([^|]*)\\|")

// metrics returns the labels of all series that are documented.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(text), -1) {
		has := strings.FieldsFunc(row[4], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		if row[2] == "agent" {
			has = append(has, "node") // by the PodMonitor
		}
		if row[3] == "histogram" {
			all[row[1]+"_bucket"] = append([]string{"le"}, has...)
			all[row[1]+"_count"], all[row[1]+"_sum"] = has, has
		} else {
			all[row[1]] = has
		}
	}
	return all
}

// query is one of a panel; in its legend are labels of what it returns.
type query struct{ Expr, LegendFormat string }

// queries returns the queries of the dashboards, by where they are.
func queries(t *testing.T) map[string]query {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "monitoring", "rendered", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]query{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				ID      int
				Title   string
				Targets []query
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			for i, q := range p.Targets {
				q.Expr = variable.ReplaceAllString(strings.ReplaceAll(q.Expr, "$__rate_interval", "5m"), "x")
				all[fmt.Sprintf("%s: %s (panel %d, query %d)", filepath.Base(file), p.Title, p.ID, i)] = q
			}
		}
	}
	if len(all) < 90 {
		t.Fatalf("only %d queries", len(all))
	}
	return all
}

var (
	variable = regexp.MustCompile(`\$[a-z]+`)
	inLegend = regexp.MustCompile(`{{([a-zA-Z]+)}}`)
)

// series are those that a selector asks for, in the language of promql's tests. A label that it does not ask for is x.
func series(s *parser.VectorSelector, has []string) string {
	values := map[string]string{}
	for _, m := range s.LabelMatchers {
		values[m.Name] = strings.Split(m.Value, "|")[0]
	}
	bounds := []string{""}
	if strings.HasSuffix(s.Name, "_bucket") {
		bounds = []string{"1", "2", "+Inf"}
	}
	var text strings.Builder
	for _, bound := range bounds {
		var pairs []string
		for _, label := range has {
			value := values[label]
			if label == "le" {
				value = bound
			} else if value == "" {
				value = "x"
			}
			pairs = append(pairs, fmt.Sprintf("%s=%q", label, value))
		}
		fmt.Fprintf(&text, "  %s{%s} 1+1x1500\n", s.Name, strings.Join(pairs, ","))
	}
	return text.String()
}

// TestQueriesOfDashboards parses each, compares the labels by which it aggregates with those that the metrics have, and runs
// it on such series. It must return something, with the labels of its legend.
func TestQueriesOfDashboards(t *testing.T) {
	documented := metrics(t)
	engine := promqltest.NewTestEngine(t, false, 0, 1_000_000)
	for where, q := range queries(t) {
		t.Run(where, func(t *testing.T) {
			expr, err := parser.NewParser(parser.Options{}).ParseExpr(q.Expr)
			if err != nil {
				t.Fatalf("%s: %v", q.Expr, err)
			}
			load := map[string]bool{}
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				switch node := node.(type) {
				case *parser.VectorSelector:
					has, there := documented[node.Name]
					if !there {
						t.Errorf("docs/metrics.md does not have %s", node.Name)
					}
					for _, m := range node.LabelMatchers {
						if m.Name != labels.MetricName && !slices.Contains(has, m.Name) {
							t.Errorf("%s has no label %s", node.Name, m.Name)
						}
					}
					load[series(node, has)] = true
				case *parser.AggregateExpr:
					for _, label := range node.Grouping {
						if !slices.Contains(below(node, documented), label) {
							t.Errorf("nothing in %s has the label %s", node, label)
						}
					}
				}
				return nil
			})
			storage := promqltest.LoadedStorage(t, "load 1m\n"+strings.Join(slices.Sorted(maps.Keys(load)), ""))
			run, err := engine.NewInstantQuery(t.Context(), storage, nil, q.Expr, time.Unix(0, 0).Add(25*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			defer run.Close()
			vector, err := run.Exec(t.Context()).Vector()
			if err != nil || len(vector) == 0 {
				t.Fatalf("%s returns %v, %v", q.Expr, vector, err)
			}
			for _, label := range inLegend.FindAllStringSubmatch(q.LegendFormat, -1) {
				if vector[0].Metric.Get(label[1]) == "" {
					t.Errorf("%s has no %s for its legend: %s", q.Expr, label[1], vector[0].Metric)
				}
			}
		})
	}
}

// below returns the labels that the metrics in an expression have.
func below(node parser.Node, documented map[string][]string) []string {
	var all []string
	parser.Inspect(node, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			all = append(all, documented[s.Name]...)
		}
		return nil
	})
	return all
}
