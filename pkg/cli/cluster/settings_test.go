// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

func TestParseSettings(t *testing.T) {
	seconds := func(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Second} }
	tests := map[string]struct {
		config string
		want   gpumap.Settings
	}{
		"no arguments are the defaults": {config: "profiles: [{schedulerName: berth}]", want: gpumap.DefaultSettings()},
		"what is given counts, what is absent keeps its default": {
			config: "profiles: [{schedulerName: berth, pluginConfig: [{name: Berth, args: {headroom: 1Gi, staleAfter: 0s}}]}]",
			want: gpumap.Settings{
				Headroom: resource.MustParse("1Gi"), StaleAfter: seconds(0), LoadTimeout: seconds(900), DRADrivers: []string{"gpu.nvidia.com"},
			},
		},
		"other profiles and other plugins do not count": {
			config: "profiles: [{schedulerName: berth-test, pluginConfig: [{name: Berth, args: {headroom: 1Gi}}]}, " +
				"{schedulerName: berth, pluginConfig: [{name: Other, args: {headroom: 2Gi}}, {name: Berth, args: {loadTimeout: 1m}}]}]",
			want: gpumap.Settings{
				Headroom: resource.MustParse("256Mi"), StaleAfter: seconds(60), LoadTimeout: seconds(60), DRADrivers: []string{"gpu.nvidia.com"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseSettings([]byte(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSettingsFailsOnWhatTheSchedulerWouldNotTake(t *testing.T) {
	for name, config := range map[string]string{
		"no YAML":        "profiles: [",
		"a bad quantity": "profiles: [{schedulerName: berth, pluginConfig: [{name: Berth, args: {headroom: lots}}]}]",
		"a bad duration": "profiles: [{schedulerName: berth, pluginConfig: [{name: Berth, args: {staleAfter: 60}}]}]",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseSettings([]byte(config)); err == nil {
				t.Errorf("got %+v, want an error", got)
			}
		})
	}
}

// TestShippedSettings also holds the defaults here to those of the shipped configuration, which spells them out.
func TestShippedSettings(t *testing.T) {
	text, err := fs.ReadFile(manifests.FS, "scheduler/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseSettings(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(gpumap.DefaultSettings(), got); diff != "" {
		t.Errorf("shipped settings (-defaults +shipped):\n%s", diff)
	}
}
