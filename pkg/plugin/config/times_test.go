// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
)

// TestCheckTimes: leaseDuration - 2 × retryPeriod - 1s is the most.
func TestCheckTimes(t *testing.T) {
	berth := &schedulerconfig.Plugins{MultiPoint: schedulerconfig.PluginSet{Enabled: []schedulerconfig.Plugin{{Name: Name}}}}
	for _, tc := range []struct {
		name         string
		plugins      *schedulerconfig.Plugins
		args         string // of BerthArgs; "" = the defaults, 4s
		lease, retry time.Duration
		ok           bool
	}{
		{"the shipped times", berth, "", 15 * time.Second, 2 * time.Second, true},
		{"the most", berth, `{"bindTimeout": "10s"}`, 15 * time.Second, 2 * time.Second, true},
		{"more than that", berth, `{"bindTimeout": "10.001s"}`, 15 * time.Second, 2 * time.Second, false},
		{"others respect whole seconds of a lease", berth, `{"bindTimeout": "10.001s"}`, 15900 * time.Millisecond, 2 * time.Second, false},
		{"the default under a short lease", berth, "", 6 * time.Second, time.Second, false},
		{"a profile without Berth", &schedulerconfig.Plugins{}, "", 6 * time.Second, time.Second, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			profile := schedulerconfig.KubeSchedulerProfile{Plugins: tc.plugins}
			if tc.args != "" {
				profile.PluginConfig = []schedulerconfig.PluginConfig{{Name: Name, Args: &runtime.Unknown{Raw: []byte(tc.args)}}}
			}
			err := CheckTimes([]schedulerconfig.KubeSchedulerProfile{profile}, tc.lease, tc.retry)
			if (err == nil) != tc.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
