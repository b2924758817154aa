// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// needsMore are parts of the queries of dashboards that return nothing in a lab in which all is well: they count what did not
// happen there, or what is told by a flag only.
var needsMore = []string{
	"berth_node_", "berth_pod_gpu_memory_booked_bytes", // flags
	"berth_controller_model_resolutions_total", "berth_controller_estimate_to_peak_ratio", // models that were looked up
	`decision="refused"`, "berth_scheduler_bind_failures_total", "berth_scheduler_plans_rejected_total",
	"berth_scheduler_evictions_total", "berth_scheduler_driver_upgrade_evictions_total", "berth_controller_pod_deviations_total",
	"berth_pod_gpu_memory_used_bytes", // a lab's agents have no pods
}

// waitDashboards waits until each query of the dashboards returns data, for a node and everything else that can be chosen.
func (m *monitored) waitDashboards(node string) {
	m.t.Helper()
	fill := strings.NewReplacer("$__rate_interval", "1m", "$node", node, "$model", ".*", "$namespace", ".*", "$reason", ".*", "$size", ".*", "$runtime", ".*")
	queries := dashboardQueries(m.t)
	asked := 0
	for _, query := range queries {
		if slices.ContainsFunc(needsMore, func(part string) bool { return strings.Contains(query, part) }) {
			continue
		}
		asked++
		m.waitData(fill.Replace(query))
	}
	if asked < 60 {
		m.t.Errorf("only %d of %d queries of the dashboards were asked", asked, len(queries))
	}
}

func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "monitoring", "rendered", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct{ Targets []struct{ Expr string } }
		}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				queries = append(queries, target.Expr)
			}
		}
	}
	return queries
}
