// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metricsdoc holds docs/metrics.md to what components register, for their tests.
package metricsdoc

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// prefix is of all metrics that are Berth's own; a component has those of its libraries beside them.
const prefix = "berth_"

// metric is a row of the page, or what is registered.
type metric struct {
	Name, Of, Type, Unit, Stability string
	// Labels are sorted.
	Labels string
}

// Check compares the rows of a component on a page with what it has registered, and asks Prometheus' own linter about the
// metrics that have a value.
func Check(t testing.TB, page, component string, registerer prometheus.Registerer) {
	t.Helper()
	registry, ok := registerer.(*prometheus.Registry)
	if !ok {
		t.Fatalf("%T is no registry", registerer)
	}
	problems, err := compare(page, component, registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

func compare(page, component string, registry *prometheus.Registry) (problems []string, err error) {
	rows, err := read(page)
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(m metric) bool { return m.Of != component })
	families, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), prefix) })
	registered, err := describe(registry, families)
	if err != nil {
		return nil, err
	}
	for _, m := range registered {
		i := slices.IndexFunc(rows, func(r metric) bool { return r.Name == m.Name })
		if i < 0 {
			problems = append(problems, fmt.Sprintf("%s has no row with %s", page, m))
			continue
		}
		row := rows[i]
		if m.Type == "" {
			row.Type = ""
		}
		m.Of = component
		if row != m {
			problems = append(problems, fmt.Sprintf("%s is registered as\n\t%s, the page has\n\t%s", m.Name, m, row))
		}
	}
	for _, r := range rows {
		if !slices.ContainsFunc(registered, func(m metric) bool { return m.Name == r.Name }) {
			problems = append(problems, fmt.Sprintf("%s has a row with %s, which the %s does not register", page, r.Name, component))
		}
	}
	lint, err := promlint.NewWithMetricFamilies(families).Lint()
	for _, p := range lint {
		problems = append(problems, p.Metric+": "+p.Text)
	}
	return problems, err
}

// String writes a metric as a row has it.
func (m metric) String() string {
	return fmt.Sprintf("%s | %s | %s | %s | %s", m.Name, m.Type, m.Unit, m.Labels, m.Stability)
}

var cell = regexp.MustCompile("`([^`]+)`")

// read returns the rows of the tables of metrics. Their columns are found by the names in the first row.
func read(page string) (rows []metric, err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	var columns []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			columns = nil
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == "metric":
			columns = cells
			continue
		case columns == nil || strings.HasPrefix(cells[0], "---"):
			continue
		case len(cells) != len(columns):
			return nil, fmt.Errorf("%s: a row of %d cells in a table of %d: %s", page, len(cells), len(columns), line)
		}
		m := metric{}
		for i, column := range columns {
			switch column {
			case "metric":
				m.Name = strings.Join(quoted(cells[i]), "")
			case "of":
				m.Of = cells[i]
			case "type":
				m.Type = cells[i]
			case "unit":
				m.Unit = cells[i]
			case "stability":
				m.Stability = cells[i]
			case "labels":
				labels := quoted(cells[i])
				slices.Sort(labels)
				m.Labels = strings.Join(labels, ",")
			}
		}
		rows = append(rows, m)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s has no table whose first column is \"metric\"", page)
	}
	return rows, nil
}

func quoted(text string) (out []string) {
	for _, match := range cell.FindAllStringSubmatch(text, -1) {
		out = append(out, match[1])
	}
	return out
}

var described = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "(?:\[([A-Z]+)\])?.*", constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}`)

// describe returns the metrics that a registry has, with or without values; the type is known of those with.
func describe(registry *prometheus.Registry, families []*dto.MetricFamily) (out []metric, err error) {
	descs := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		match := described.FindStringSubmatch(d.String())
		switch {
		case match == nil:
			err = fmt.Errorf("what is %s", d)
			continue
		case !strings.HasPrefix(match[1], prefix):
			continue
		}
		labels := strings.Split(match[3], ",")
		slices.Sort(labels)
		m := metric{
			Name: match[1], Labels: strings.Join(labels, ","), Unit: unitOf(match[1]),
			Stability: cmp.Or(match[2], "ALPHA"), // registered with Prometheus' own library, which knows of no stability
		}
		if strings.HasSuffix(m.Name, "_total") {
			m.Type = "counter"
		}
		for _, f := range families {
			if f.GetName() == m.Name {
				m.Type = strings.ToLower(f.GetType().String())
			}
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b metric) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// unitOf returns the unit that a name ends in, by Prometheus' rules; a count has none.
func unitOf(name string) string {
	name = strings.TrimSuffix(name, "_total")
	for _, unit := range []string{"bytes", "seconds", "ratio"} {
		if strings.HasSuffix(name, "_"+unit) {
			return unit
		}
	}
	return ""
}
