// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package export

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/fleet"
)

func numbers() *fleet.Numbers {
	n := &fleet.Numbers{
		Models: map[string]*fleet.Amounts{"H100": {Capacity: alloc.GiB(80), Fragmented: 1.5}},
		Namespaces: map[fleet.NamespaceModel]fleet.Used{
			{Namespace: "team", Model: "H100"}: {Booked: alloc.GiB(2), Measured: alloc.GiB(1)},
		},
		Overbooked: 3,
	}
	n.Models["H100"].Devices[fleet.Unhealthy] = 2
	n.Pending[fleet.Loading][1] = 4
	return n
}

// gather returns the lines of the metrics whose value is not zero.
func gather(t *testing.T, c *Collector) (lines []string) {
	t.Helper()
	registry := metrics.NewKubeRegistry()
	registry.CustomMustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if _, err := testutil.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(text.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "berth_") && !strings.HasSuffix(line, " 0") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestCollector(t *testing.T) {
	ofModel := []string{
		`berth_fleet_devices{model="H100",state="unhealthy"} 2`,
		`berth_fleet_gpu_memory_capacity_bytes{model="H100"} 8.589934592e+10`,
		`berth_fleet_gpu_memory_fragmented_bytes{model="H100"} 1.5`,
		`berth_namespace_gpu_memory_booked_bytes{model="H100",namespace="team"} 2.147483648e+09`,
		`berth_namespace_gpu_memory_measured_bytes{model="H100",namespace="team"} 1.073741824e+09`,
		`berth_overbooked_devices 3`,
		`berth_pending_pods{age="1m",reason="loading"} 4`,
		`berth_scheduler_places_pods 1`,
	}
	tests := []struct {
		name   string
		status *Status
		want   []string
	}{
		{"without a source", nil, nil},
		{"of one that does not lead", &Status{Places: true, Numbers: numbers()}, nil},
		{"of a leader", &Status{Leads: true, Places: true, Numbers: numbers()}, ofModel},
		{"of a leader that places nothing", &Status{Leads: true, Numbers: numbers()}, ofModel[:7]},
		{"of a leader whose books are not right", &Status{Leads: true}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Collector{}
			if tt.status != nil {
				c.Serve(func() Status { return *tt.status })
			}
			if diff := cmp.Diff(tt.want, gather(t, c)); diff != "" {
				t.Errorf("metrics that are not zero (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNodesAreToldOfWhenAsked, and by metrics of their own, so that sums over the others stay right.
func TestNodesAreToldOfWhenAsked(t *testing.T) {
	n := &fleet.Numbers{PerNode: map[fleet.NodeModel]*fleet.Amounts{{Node: "n", Model: "H100"}: {Free: alloc.GiB(1)}}}
	c := &Collector{}
	c.Serve(func() Status { return Status{Leads: true, Numbers: n} })
	want := []string{`berth_node_gpu_memory_free_bytes{model="H100",node="n"} 1.073741824e+09`}
	if diff := cmp.Diff(want, gather(t, c)); diff != "" {
		t.Errorf("metrics that are not zero (-want +got):\n%s", diff)
	}
}
