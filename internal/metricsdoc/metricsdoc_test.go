// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package metricsdoc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const table = `
| metric | of | type | unit | labels | stability | meaning |
|---|---|---|---|---|---|---|
`

func TestCompare(t *testing.T) {
	tests := []struct {
		name string
		rows string
		want []string
	}{
		{"all as it is registered",
			"| `berth_x_bytes` | agent | gauge | bytes | `b`, `a` | ALPHA | x |\n| `berth_y_total` | agent | counter | | | BETA | y |\n| `berth_z` | scheduler | gauge | | | ALPHA | z |\n", nil},
		{"one row is missing, and one has no metric",
			"| `berth_x_bytes` | agent | gauge | bytes | `a`, `b` | ALPHA | x |\n| `berth_z` | agent | gauge | | | ALPHA | z |\n",
			[]string{"PAGE has no row with berth_y_total | counter |  |  | BETA", "PAGE has a row with berth_z, which the agent does not register"}},
		{"another type, label and stability",
			"| `berth_x_bytes` | agent | counter | bytes | `a` | ALPHA | x |\n| `berth_y_total` | agent | counter | | | ALPHA | y |\n",
			[]string{
				"berth_x_bytes is registered as\n\tberth_x_bytes | gauge | bytes | a,b | ALPHA, the page has\n\tberth_x_bytes | counter | bytes | a | ALPHA",
				"berth_y_total is registered as\n\tberth_y_total | counter |  |  | BETA, the page has\n\tberth_y_total | counter |  |  | ALPHA",
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			page := filepath.Join(t.TempDir(), "metrics.md")
			if err := os.WriteFile(page, []byte("# Metrics\n"+table+tt.rows), 0o600); err != nil {
				t.Fatal(err)
			}
			r := prometheus.NewRegistry()
			x := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "berth_x_bytes", Help: "X."}, []string{"b", "a"})
			x.WithLabelValues("1", "2").Set(1)
			r.MustRegister(x, prometheus.NewCounter(prometheus.CounterOpts{Name: "berth_y_total", Help: "[BETA] Y."}),
				prometheus.NewGauge(prometheus.GaugeOpts{Name: "go_else", Help: "Another's."}))
			got, err := compare(page, "agent", r)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			for i := range want {
				if len(want[i]) > 4 && want[i][:4] == "PAGE" {
					want[i] = page + want[i][4:]
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheLinterIsAsked(t *testing.T) {
	page := filepath.Join(t.TempDir(), "metrics.md")
	if err := os.WriteFile(page, []byte(table+"| `berth_x_milliseconds` | agent | gauge | | | ALPHA | x |\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "berth_x_milliseconds", Help: "X."}))
	got, err := compare(page, "agent", r)
	if err != nil || len(got) == 0 {
		t.Errorf("got %v, %v", got, err)
	}
}
