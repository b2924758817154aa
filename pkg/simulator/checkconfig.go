// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"
	"fmt"
	"slices"
	"time"

	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/plugin"
	pluginconfig "github.com/berth-dev/berth/pkg/plugin/config"
)

// The Lease of the scheduler: its roles let it have no other.
const schedulerLease = "berth-scheduler"

// ConfigCheck is what a scheduler makes of its configuration.
type ConfigCheck struct {
	// Flaws are what it starts with, and places pods wrongly by.
	Flaws []string
	// Args are the arguments of the plugin, defaults applied; nil if no profile that pods ask for has it.
	Args *pluginconfig.Args
	// NodesToScore is the percentageOfNodesToScore of the profile that pods ask for, or of all; 0 = it depends on their number.
	NodesToScore int32
	// Elects says that replicas elect a leader.
	Elects bool
}

// CheckConfig has a scheduler made by a KubeSchedulerConfiguration, and looks at what became of it. The error is why it would
// not start.
func CheckConfig(ctx context.Context, text []byte) (*ConfigCheck, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config, err := decodeConfig(text)
	if err != nil {
		return nil, err
	}
	c := &ConfigCheck{Elects: config.LeaderElection.LeaderElect, NodesToScore: nodesToScore(config)}
	if le := &config.LeaderElection; c.Elects {
		if le.ResourceNamespace != berthv1alpha1.Namespace || le.ResourceName != schedulerLease {
			c.Flaws = append(c.Flaws, fmt.Sprintf("leaderElection names the Lease %s/%s: Berth's is %s/%s, and its account may have no other",
				le.ResourceNamespace, le.ResourceName, berthv1alpha1.Namespace, schedulerLease))
		}
		if err := pluginconfig.CheckTimes(config.Profiles, le.LeaseDuration.Duration, le.RetryPeriod.Duration); err != nil {
			return nil, err
		}
	}
	s, err := New(ctx, &Snapshot{Time: time.Now(), Config: text}, Options{})
	if err != nil {
		return nil, err
	}
	profile := s.sched.Profiles[berthv1alpha1.SchedulerName]
	switch {
	case s.plugin == nil:
		c.Flaws = append(c.Flaws, "no profile has the plugin "+plugin.Name)
		return c, nil
	case profile == nil:
		c.Flaws = append(c.Flaws, fmt.Sprintf("no profile is named %s, by which pods ask for it", berthv1alpha1.SchedulerName))
		return c, nil
	}
	args := s.Arguments()
	c.Args = &args
	c.Flaws = append(c.Flaws, flawsOf(profile.ListPlugins())...)
	return c, nil
}

func nodesToScore(config *schedulerconfig.KubeSchedulerConfiguration) int32 {
	for i := range config.Profiles {
		if p := &config.Profiles[i]; p.SchedulerName == berthv1alpha1.SchedulerName && p.PercentageOfNodesToScore != nil {
			return *p.PercentageOfNodesToScore
		}
	}
	return ptr.Deref(config.PercentageOfNodesToScore, 0)
}

// flawsOf says what of the plugins of a profile is not as Berth needs it.
func flawsOf(p *schedulerconfig.Plugins) (flaws []string) {
	at := func(set schedulerconfig.PluginSet, name string) int {
		return slices.IndexFunc(set.Enabled, func(e schedulerconfig.Plugin) bool { return e.Name == name })
	}
	if at(p.Bind, plugin.Name) != 0 {
		flaws = append(flaws, fmt.Sprintf("%s is not the first under bind, so that %s binds pods without their allocation", plugin.Name, names.DefaultBinder))
	}
	if at(p.PostFilter, names.DefaultPreemption) >= 0 {
		flaws = append(flaws, names.DefaultPreemption+" is not disabled, which evicts without a look at GPU memory")
	}
	for _, point := range []struct {
		name string
		set  schedulerconfig.PluginSet
	}{
		{"preEnqueue", p.PreEnqueue}, {"preFilter", p.PreFilter}, {"filter", p.Filter}, {"postFilter", p.PostFilter},
		{"preScore", p.PreScore}, {"score", p.Score}, {"reserve", p.Reserve},
	} {
		if at(point.set, plugin.Name) < 0 {
			flaws = append(flaws, plugin.Name+" is off under "+point.name)
		}
	}
	return flaws
}
