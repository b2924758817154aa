// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	frameworkplugins "k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/utils/ptr"

	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/plugin"
)

// shippedConfig is the configuration of a scheduler as it is installed.
const shippedConfig = "scheduler/config.yaml"

// decodeConfig reads a KubeSchedulerConfiguration, the shipped one if there is none, defaults applied.
func decodeConfig(text []byte) (_ *schedulerconfig.KubeSchedulerConfiguration, err error) {
	if len(text) == 0 {
		if text, err = manifests.FS.ReadFile(shippedConfig); err != nil {
			return nil, err
		}
	}
	obj, gvk, err := scheme.Codecs.UniversalDecoder().Decode(text, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("the scheduler's configuration: %w", err)
	}
	config, ok := obj.(*schedulerconfig.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("the scheduler's configuration is a %s, not a KubeSchedulerConfiguration", gvk.Kind)
	}
	config.APIVersion = gvk.GroupVersion().String()
	return config, nil
}

// readConfig reads a KubeSchedulerConfiguration for a scheduler that is driven by hand. The notes say what of it cannot be
// simulated. onlyBerth leaves scoring to the plugin.
func readConfig(text []byte, override map[string]any, onlyBerth bool) (config *schedulerconfig.KubeSchedulerConfiguration, notes []string, err error) {
	if config, err = decodeConfig(text); err != nil {
		return nil, nil, err
	}
	config.Parallelism, config.PercentageOfNodesToScore = 1, ptr.To[int32](100)
	for i := range config.Extenders {
		notes = append(notes, "the scheduler's extender "+config.Extenders[i].URLPrefix+" is not asked")
	}
	config.Extenders = nil
	known := frameworkplugins.NewInTreeRegistry()
	for i := range config.Profiles {
		p := &config.Profiles[i]
		p.PercentageOfNodesToScore = nil
		if p.Plugins == nil {
			p.Plugins = &schedulerconfig.Plugins{}
		}
		for _, name := range dropUnknown(p, func(name string) bool { return name == plugin.Name || known[name] != nil }) {
			notes = append(notes, fmt.Sprintf("the scheduler's plugin %s is left out: this program does not have it", name))
		}
		if err := overrideArgs(p, override); err != nil {
			return nil, nil, err
		}
		if onlyBerth && hasBerth(p) {
			all := []schedulerconfig.Plugin{{Name: "*"}}
			only := []schedulerconfig.Plugin{{Name: plugin.Name, Weight: 1}}
			p.Plugins.PreScore = schedulerconfig.PluginSet{Enabled: only, Disabled: all}
			p.Plugins.Score = schedulerconfig.PluginSet{Enabled: only, Disabled: all}
		}
		watched := []schedulerconfig.Plugin{{Name: probeName}}
		p.Plugins.PreFilter.Enabled = append(p.Plugins.PreFilter.Enabled, watched...)
		p.Plugins.Reserve.Enabled = append(p.Plugins.Reserve.Enabled, watched...)
		p.Plugins.PostBind.Enabled = append(p.Plugins.PostBind.Enabled, watched...)
		p.Plugins.PreBind.Disabled = append(p.Plugins.PreBind.Disabled, schedulerconfig.Plugin{Name: names.VolumeBinding})
	}
	return config, notes, nil
}

// dropUnknown takes the plugins off a profile that are not known, and returns their names.
func dropUnknown(p *schedulerconfig.KubeSchedulerProfile, known func(name string) bool) (dropped []string) {
	for _, set := range []*schedulerconfig.PluginSet{
		&p.Plugins.MultiPoint, &p.Plugins.PreEnqueue, &p.Plugins.QueueSort, &p.Plugins.PreFilter, &p.Plugins.Filter, &p.Plugins.PostFilter,
		&p.Plugins.PreScore, &p.Plugins.Score, &p.Plugins.Reserve, &p.Plugins.Permit, &p.Plugins.PreBind, &p.Plugins.Bind, &p.Plugins.PostBind,
	} {
		set.Enabled = slices.DeleteFunc(slices.Clone(set.Enabled), func(e schedulerconfig.Plugin) bool {
			if known(e.Name) {
				return false
			}
			dropped = append(dropped, e.Name)
			return true
		})
	}
	p.PluginConfig = slices.DeleteFunc(slices.Clone(p.PluginConfig), func(c schedulerconfig.PluginConfig) bool { return !known(c.Name) })
	slices.Sort(dropped)
	return slices.Compact(dropped)
}

// hasBerth says whether a profile has the plugin.
func hasBerth(p *schedulerconfig.KubeSchedulerProfile) bool {
	return slices.ContainsFunc(slices.Concat(p.Plugins.MultiPoint.Enabled, p.Plugins.Bind.Enabled),
		func(e schedulerconfig.Plugin) bool { return e.Name == plugin.Name })
}

// overrideArgs sets arguments of Berth in a profile that has the plugin.
func overrideArgs(p *schedulerconfig.KubeSchedulerProfile, override map[string]any) error {
	if len(override) == 0 || !hasBerth(p) {
		return nil
	}
	args := map[string]any{}
	i := slices.IndexFunc(p.PluginConfig, func(c schedulerconfig.PluginConfig) bool { return c.Name == plugin.Name })
	if i < 0 {
		p.PluginConfig = append(p.PluginConfig, schedulerconfig.PluginConfig{Name: plugin.Name})
		i = len(p.PluginConfig) - 1
	} else if raw, ok := p.PluginConfig[i].Args.(*runtime.Unknown); ok {
		if err := json.Unmarshal(raw.Raw, &args); err != nil {
			return fmt.Errorf("the arguments of %s: %w", plugin.Name, err)
		}
	}
	for k, v := range override {
		args[k] = v
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	p.PluginConfig[i].Args = &runtime.Unknown{Raw: raw, ContentType: runtime.ContentTypeJSON}
	return nil
}
