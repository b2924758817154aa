// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestSchedulerConfig(t *testing.T) {
	const quick = "leaderElection: {leaseDuration: 6s, renewDeadline: 4s, retryPeriod: 500ms"
	tests := map[string]struct {
		shipped string
		bare    bool
		want    string
	}{
		"credentials and quick leader election are added, all else stays": {
			shipped: "{leaderElection: {resourceName: berth-scheduler}, profiles: [{schedulerName: berth}]}",
			want: "{clientConnection: {kubeconfig: k}, " + quick + ", resourceName: berth-scheduler}, " +
				"profiles: [{schedulerName: berth}]}",
		},
		"the plugin's Bindings end before another process can lead": {
			shipped: "{profiles: [{pluginConfig: [{name: Other, args: {a: b}}, {name: Berth, args: {headroom: 1Gi}}]}]}",
			want: "{clientConnection: {kubeconfig: k}, " + quick + "}, profiles: [{pluginConfig: " +
				"[{name: Other, args: {a: b}}, {name: Berth, args: {headroom: 1Gi, bindTimeout: 1500ms}}]}]}",
		},
		"on a bare lab reports are never stale": {
			shipped: "{profiles: [{pluginConfig: [{name: Berth, args: {staleAfter: 60s}}]}]}",
			bare:    true,
			want: "{clientConnection: {kubeconfig: k}, " + quick + "}, profiles: [{pluginConfig: " +
				"[{name: Berth, args: {staleAfter: 0s, bindTimeout: 1500ms}}]}]}",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := schedulerConfig(&Options{SchedulerConfig: []byte(tt.shipped), Bare: tt.bare}, "k")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decoded(t, []byte(tt.want)), decoded(t, got)); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func decoded(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var object map[string]any
	if err := yaml.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return object
}
