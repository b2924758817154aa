// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type datasource struct{ Type, UID string }

type position struct{ X, Y, W, H int }

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  *datasource
	GridPos     position
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
	Targets []struct {
		RefID      string
		Expr       string
		Datasource *datasource
	}
}

// dashboard is what Grafana must find in its classic JSON model.
type dashboard struct {
	UID           string
	Title         string
	Description   string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type, Query string
			Datasource        *datasource
		}
	}
}

// dashboards returns those that are rendered, by the names of their files.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "monitoring", "rendered", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		name := filepath.Base(file)
		var d dashboard
		if err := json.Unmarshal(read(t, "monitoring/rendered/dashboards/"+name), &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = d
	}
	if len(all) != 4 {
		t.Fatalf("%d dashboards, want 4", len(all))
	}
	return all
}

// fromVariable is how each panel, query and filter names its data source: that which was chosen above.
func fromVariable(d *datasource) bool {
	return d != nil && *d == datasource{"prometheus", "${datasource}"}
}

func overlap(a, b position) bool {
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// TestDashboardsAreWhatGrafanaReads: by the classic model, since there is no Grafana to show them.
func TestDashboardsAreWhatGrafanaReads(t *testing.T) {
	units := []string{"bytes", "s", "percentunit", "short"}
	uids := map[string]bool{}
	for name, d := range dashboards(t) {
		if d.UID+".json" != name || uids[d.UID] || len(d.UID) > 40 {
			t.Errorf("%s has the uid %q", name, d.UID)
		}
		uids[d.UID] = true
		if d.Title == "" || d.Description == "" || d.SchemaVersion != 39 {
			t.Errorf("%s has the title %q, the description %q, the schema %d", name, d.Title, d.Description, d.SchemaVersion)
		}
		ids := map[int]bool{}
		for i, p := range d.Panels {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: %s has the id %d", name, p.Title, p.ID)
			}
			ids[p.ID] = true
			if g := p.GridPos; g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
				t.Errorf("%s: %s is at %+v", name, p.Title, g)
			}
			for _, other := range d.Panels[:i] {
				if overlap(p.GridPos, other.GridPos) {
					t.Errorf("%s: %s lies over %s", name, p.Title, other.Title)
				}
			}
			if p.Title == "" {
				t.Errorf("%s: the panel %d has no title", name, p.ID)
			}
			if p.Type == "row" {
				continue
			}
			if !slices.Contains([]string{"stat", "timeseries"}, p.Type) || p.Description == "" || !fromVariable(p.Datasource) ||
				!slices.Contains(units, p.FieldConfig.Defaults.Unit) || len(p.Targets) == 0 {
				t.Errorf("%s: %s lacks a description, the data source, a unit or queries, or is of an unknown type: %+v", name, p.Title, p)
			}
			references := map[string]bool{}
			for _, q := range p.Targets {
				if q.RefID == "" || references[q.RefID] || q.Expr == "" || !fromVariable(q.Datasource) {
					t.Errorf("%s: %s has the query %+v", name, p.Title, q)
				}
				references[q.RefID] = true
			}
		}
		if len(ids) < 12 {
			t.Errorf("%s has only %d panels", name, len(ids))
		}
	}
}

var variable = regexp.MustCompile(`\$\{?([a-zA-Z_]+)`)

// TestDashboardsVariables: each that is used is there, and the other way round, and each filter asks the data source.
func TestDashboardsVariables(t *testing.T) {
	for name, d := range dashboards(t) {
		there, used := map[string]bool{}, map[string]bool{"datasource": true, "__rate_interval": true}
		use := func(text string) {
			for _, match := range variable.FindAllStringSubmatch(text, -1) {
				used[match[1]] = true
			}
		}
		for i, v := range d.Templating.List {
			if (i == 0) != (v.Type == "datasource") || i > 0 && (v.Type != "query" || !fromVariable(v.Datasource)) {
				t.Errorf("%s has the variable %+v at %d", name, v, i)
			}
			there[v.Name] = true
			if i > 0 {
				use(v.Query)
			}
		}
		there["__rate_interval"] = true // Grafana's own
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				use(q.Expr)
			}
		}
		for v := range used {
			if !there[v] {
				t.Errorf("%s uses $%s, which is no variable", name, v)
			}
		}
		for v := range there {
			if !used[v] {
				t.Errorf("%s has the variable %s, and no query uses it", name, v)
			}
		}
	}
}

// metricRow is a line of the tables of docs/metrics.md: metric, of, type, unit, labels.
var metricRow = regexp.MustCompile("(?m)^\\| `(berth_[a-z_]+)` \\| ([a-z]+) \\| ([a-z]+) \\|[^|]*\\|([^|]*)\\|")

// selector is a metric and what is asked of its labels.
var (
	selector = regexp.MustCompile(`(berth_[a-z_]+)(?:\{([^}]*)\})?`)
	matched  = regexp.MustCompile(`([a-zA-Z_]+)(?:=~|!~|!=|=)"`)
)

// TestDashboardsUseMetricsThatThereAre, with labels that these have. What is aggregated by labels is parsed in hack/monitoring.
func TestDashboardsUseMetricsThatThereAre(t *testing.T) {
	labels, shown := map[string][]string{}, map[string]bool{} // shown is by the names of the table
	for _, row := range metricRow.FindAllStringSubmatch(string(read(t, "docs/metrics.md")), -1) {
		has := strings.Split(strings.Trim(strings.ReplaceAll(row[4], "`", ""), " "), ", ")
		shown[row[1]] = false
		if row[2] == "agent" {
			has = append(has, "node") // by the PodMonitor, which TestLabelsAreHonoured looks at
		}
		if row[3] == "histogram" {
			labels[row[1]+"_bucket"] = append(slices.Clone(has), "le")
			labels[row[1]+"_count"], labels[row[1]+"_sum"] = has, has
			continue
		}
		labels[row[1]] = has
	}
	check := func(where, query string) {
		for _, match := range selector.FindAllStringSubmatch(query, -1) {
			has, ok := labels[match[1]]
			if !ok {
				t.Errorf("%s uses %s, which docs/metrics.md does not have", where, match[1])
			}
			for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
				if name := strings.TrimSuffix(match[1], suffix); labels[name] != nil || labels[name+"_bucket"] != nil {
					shown[name] = true
				}
			}
			for _, label := range matched.FindAllStringSubmatch(match[2], -1) {
				if !slices.Contains(has, label[1]) {
					t.Errorf("%s asks %s for the label %s, and it has %v", where, match[1], label[1], has)
				}
			}
		}
	}
	for name, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				check(name+": "+p.Title, q.Expr)
			}
		}
		for _, v := range d.Templating.List[1:] {
			check(name+": the variable "+v.Name, v.Query)
			if of := selector.FindStringSubmatch(v.Query); of == nil || !slices.Contains(labels[of[1]], v.Name) {
				t.Errorf("%s: the variable %s is the label of no metric: %s", name, v.Name, v.Query)
			}
		}
	}
	for metric, is := range shown {
		if !is {
			t.Errorf("no dashboard shows %s", metric)
		}
	}
	if len(shown) < 60 {
		t.Errorf("only %d metrics were found in docs/metrics.md", len(shown))
	}
}
