// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"

	"github.com/berth-dev/berth/pkg/leader"
)

// CheckTimes returns what is wrong with the bindTimeout of profiles under a leader election. A Binding is sent only
// while the lease has bindTimeout and a margin left, see pkg/leader; so there must be time for that between two
// renewals, and for one renewal that fails. (renewDeadline plays no part, since nobody binds on the strength of it, nor
// does the time that giving up the lease takes: it is given up only after the last Binding has ended.)
func CheckTimes(profiles []schedulerconfig.KubeSchedulerProfile, leaseDuration, retryPeriod time.Duration) error {
	for i := range profiles {
		if !enables(&profiles[i]) {
			continue
		}
		var obj runtime.Object
		for _, c := range profiles[i].PluginConfig {
			if c.Name == Name {
				obj = c.Args
			}
		}
		args, err := Decode(obj)
		if err != nil {
			return err
		}
		most := leaseDuration.Truncate(time.Second) - leader.Margin - 2*retryPeriod
		if d := args.BindTimeout.Duration; d > most {
			return fmt.Errorf("bindTimeout of %s is too long for a leaseDuration of %s and a retryPeriod of %s: it must be at most leaseDuration - 2 × retryPeriod - %s = %s",
				d, leaseDuration, retryPeriod, leader.Margin, most)
		}
	}
	return nil
}

// enables says whether a profile places pods by this plugin.
func enables(p *schedulerconfig.KubeSchedulerProfile) bool {
	return p.Plugins != nil && slices.ContainsFunc(slices.Concat(p.Plugins.MultiPoint.Enabled, p.Plugins.Bind.Enabled),
		func(e schedulerconfig.Plugin) bool { return e.Name == Name })
}
