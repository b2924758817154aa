// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package monitoring holds rules, their tests, runbooks and metrics to one another. What the rules do is tested by
// promtool: make test-monitoring.
package monitoring

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var root = filepath.Join("..", "..")

// rule is an alert, or what is recorded.
type rule struct {
	Alert       string            `json:"alert"`
	Record      string            `json:"record"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type group struct {
	Name  string `json:"name"`
	Rules []rule `json:"rules"`
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decode(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal(read(t, path), into); err != nil {
		t.Fatal(err)
	}
}

// rules returns the alerts and the records that are rendered, by name.
func rules(t *testing.T) (alerts, records map[string]rule) {
	t.Helper()
	var file struct{ Groups []group }
	decode(t, "monitoring/rendered/rules.yaml", &file)
	alerts, records = map[string]rule{}, map[string]rule{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				alerts[r.Alert] = r
			} else {
				records[r.Record] = r
			}
		}
	}
	if len(alerts) < 10 || len(records) < 5 {
		t.Fatalf("only %d alerts and %d records", len(alerts), len(records))
	}
	return alerts, records
}

// TestAlertsSayWhatToDo: each has what an on-call needs, and a runbook with its name, and there is no runbook without one.
func TestAlertsSayWhatToDo(t *testing.T) {
	alerts, _ := rules(t)
	for name, r := range alerts {
		if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
			t.Errorf("%s has the severity %q", name, s)
		}
		if r.For == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks a time, a summary or a description", name)
		}
		if url := r.Annotations["runbook_url"]; !strings.HasSuffix(url, "/docs/runbooks/"+name+".md") {
			t.Errorf("%s has the runbook %s", name, url)
		}
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "runbooks", "Berth*.md"))
	if err != nil {
		t.Fatal(err)
	}
	index := string(read(t, "docs/runbooks/README.md"))
	var named []string
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		named = append(named, name)
		text := string(read(t, "docs/runbooks/"+name+".md"))
		for _, heading := range []string{"# " + name + "\n", "\n## What it means\n", "\n## What to look at\n", "\n## What to do\n"} {
			if !strings.Contains(text, heading) {
				t.Errorf("%s has no heading %q", page, strings.TrimSpace(heading))
			}
		}
		if row := "| [" + name + "](" + name + ".md) | " + alerts[name].Labels["severity"] + " | " + alerts[name].Annotations["summary"] + " |\n"; !strings.Contains(index, row) {
			t.Errorf("docs/runbooks/README.md does not have %q", row)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(alerts)), named); diff != "" {
		t.Errorf("runbooks (-alerts +pages):\n%s", diff)
	}
}

// TestEachRuleIsTested: an alert when it fires and when it does not, and what is recorded.
func TestEachRuleIsTested(t *testing.T) {
	alerts, records := rules(t)
	var file struct {
		Tests []struct {
			Alerts []struct {
				Name string `json:"alertname"`
				Want []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
			Exprs []struct {
				Expr string `json:"expr"`
			} `json:"promql_expr_test"`
		} `json:"tests"`
	}
	decode(t, "monitoring/mixin/tests/rules.yaml", &file)
	fires, silent := map[string]bool{}, map[string]bool{}
	expressions := map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.Alerts {
			fires[a.Name] = fires[a.Name] || len(a.Want) > 0
			silent[a.Name] = silent[a.Name] || len(a.Want) == 0
		}
		for _, e := range test.Exprs {
			expressions[e.Expr] = true
		}
	}
	for name := range alerts {
		if !fires[name] || !silent[name] {
			t.Errorf("%s is tested firing: %v, not firing: %v", name, fires[name], silent[name])
		}
	}
	for name := range records {
		if strings.HasSuffix(name, ":gibibytes") {
			continue // through what is made of it
		}
		if !expressions[name] {
			t.Errorf("%s is not tested", name)
		}
	}
}

var (
	series = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	quoted = regexp.MustCompile(`"[^"]*"`)
)

// TestRulesUseMetricsThatThereAre: ours are on the page, which their components' tests compare with what they register.
func TestRulesUseMetricsThatThereAre(t *testing.T) {
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `(berth_[a-z_]+)` \\|").FindAllStringSubmatch(string(read(t, "docs/metrics.md")), -1) {
		documented[match[1]] = true
	}
	alerts, records := rules(t)
	used := 0
	for _, all := range []map[string]rule{alerts, records} {
		for name, r := range all {
			for _, metric := range series.FindAllString(quoted.ReplaceAllString(r.Expr, ""), -1) {
				switch {
				case strings.HasPrefix(metric, "berth_"):
					used++
					if !documented[metric] {
						t.Errorf("%s uses %s, which docs/metrics.md does not have", name, metric)
					}
				case strings.Contains(metric, ":berth_"):
					if _, ok := records[metric]; !ok {
						t.Errorf("%s uses %s, which is not recorded", name, metric)
					}
				}
			}
		}
	}
	if used < 15 {
		t.Errorf("only %d metrics of Berth are used", used)
	}
}

// TestLabelsAreHonoured: metrics have namespaces, pods and nodes of others in their labels, which Prometheus would replace by
// those of whom it scrapes; and agents' alerts name the node.
func TestLabelsAreHonoured(t *testing.T) {
	monitors := 0
	for _, file := range []string{"agent.yaml", "podmonitors.yaml"} {
		for _, document := range strings.Split(string(read(t, "manifests/monitoring/"+file)), "\n---\n") {
			var monitor struct {
				Metadata struct{ Name string }
				Spec     struct {
					PodMetricsEndpoints []struct {
						HonorLabels bool
						Relabelings []struct{ TargetLabel string }
					}
				}
			}
			if err := yaml.Unmarshal([]byte(document), &monitor); err != nil {
				t.Fatal(err)
			}
			monitors++
			for _, e := range monitor.Spec.PodMetricsEndpoints {
				if !e.HonorLabels {
					t.Errorf("%s does not honour labels", monitor.Metadata.Name)
				}
				if name := monitor.Metadata.Name; name != "berth-scheduler" && (len(e.Relabelings) != 1 || e.Relabelings[0].TargetLabel != "node") {
					t.Errorf("%s does not say on which node a pod is", name)
				}
			}
		}
	}
	if monitors != 3 {
		t.Errorf("%d PodMonitors were looked at, want 3", monitors)
	}
}

// TestTheOperatorGetsTheSameRules as a Prometheus without an operator.
func TestTheOperatorGetsTheSameRules(t *testing.T) {
	var plain, resource struct {
		Kind   string
		Groups []group
		Spec   struct{ Groups []group }
	}
	decode(t, "monitoring/rendered/rules.yaml", &plain)
	decode(t, "manifests/components/monitoring-rules/rules.yaml", &resource)
	if diff := cmp.Diff(plain.Groups, resource.Spec.Groups); diff != "" || resource.Kind != "PrometheusRule" {
		t.Errorf("groups of the %s (-plain +resource):\n%s", resource.Kind, diff)
	}
}
