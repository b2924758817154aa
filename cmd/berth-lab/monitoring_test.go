// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/lab"
)

func TestPrometheusIsTheOneThatIsNamedElseTheOneOnPath(t *testing.T) {
	onPath, named := binDir(t, "prometheus"), binDir(t, "other")
	t.Setenv("PATH", onPath)
	const address = "127.0.0.1:9090"
	tests := map[string]struct {
		flags monitoringFlags
		want  *lab.Monitoring
	}{
		"none without --monitoring": {flags: monitoringFlags{address: address}},
		"the one on PATH": {
			flags: monitoringFlags{on: true, address: address},
			want:  &lab.Monitoring{Program: filepath.Join(onPath, "prometheus"), Address: address},
		},
		"the one that is named": {
			flags: monitoringFlags{on: true, address: address, prometheus: filepath.Join(named, "other")},
			want:  &lab.Monitoring{Program: filepath.Join(named, "other"), Address: address},
		},
		"others are scraped too": {
			flags: monitoringFlags{on: true, address: address, scrape: []string{"a=127.0.0.1:1", "b=127.0.0.1:2"}},
			want: &lab.Monitoring{
				Program: filepath.Join(onPath, "prometheus"), Address: address, Scrape: map[string]string{"a": "127.0.0.1:1", "b": "127.0.0.1:2"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.flags.options()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsScrapedIsNamedWithItsPort(t *testing.T) {
	t.Setenv("PATH", binDir(t, "prometheus"))
	for name, tt := range map[string]struct {
		flags monitoringFlags
		want  string
	}{
		"without a Prometheus": {monitoringFlags{scrape: []string{"a=127.0.0.1:1"}}, "--scrape is for the Prometheus of --monitoring"},
		"no name": {
			monitoringFlags{on: true, address: "127.0.0.1:0", scrape: []string{"127.0.0.1:1"}},
			`--scrape: "127.0.0.1:1" is not NAME=HOST:PORT, such as kube-state-metrics=127.0.0.1:8080`,
		},
		"no port": {
			monitoringFlags{on: true, address: "127.0.0.1:0", scrape: []string{"a=127.0.0.1"}},
			`--scrape: "a=127.0.0.1" is not NAME=HOST:PORT, such as kube-state-metrics=127.0.0.1:8080`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tt.flags.options(); err == nil || err.Error() != tt.want {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}
