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
