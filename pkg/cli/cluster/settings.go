// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

const (
	// settingsSelector selects the ConfigMaps of the scheduler; kustomize adds a hash to their names.
	settingsSelector = "app.kubernetes.io/name=berth-scheduler"
	settingsKey      = "config.yaml"
	pluginName       = "Berth"
)

// Settings returns the arguments that the scheduler of the cluster runs with, as its ConfigMap has them. Where there
// is none that can be read they are the defaults.
func (c *Client) Settings(ctx context.Context) (gpumap.Settings, error) {
	text, name, err := c.schedulerConfig(ctx)
	if err != nil || text == nil {
		return gpumap.DefaultSettings(), err
	}
	settings, err := parseSettings(text)
	if err != nil {
		return gpumap.Settings{}, fmt.Errorf("ConfigMap %s/%s: %w", berthv1alpha1.Namespace, name, err)
	}
	return settings, nil
}

// schedulerConfig returns the KubeSchedulerConfiguration of the scheduler and the name of the ConfigMap that has it; nil
// where there is none that can be read.
func (c *Client) schedulerConfig(ctx context.Context) (text []byte, name string, err error) {
	maps, err := c.kube.CoreV1().ConfigMaps(berthv1alpha1.Namespace).List(ctx, metav1.ListOptions{LabelSelector: settingsSelector})
	if err != nil {
		if unreadable(err) {
			return nil, "", nil
		}
		return nil, "", fmt.Errorf("list ConfigMaps of the scheduler: %w", err)
	}
	text, name = newestConfig(maps.Items)
	return text, name, nil
}

// newestConfig returns the KubeSchedulerConfiguration among ConfigMaps of the scheduler; nil if there is none.
func newestConfig(maps []corev1.ConfigMap) (text []byte, name string) {
	var newest *corev1.ConfigMap
	for i := range maps {
		m := &maps[i]
		if m.Data[settingsKey] != "" && (newest == nil || newest.CreationTimestamp.Before(&m.CreationTimestamp)) {
			newest = m
		}
	}
	if newest == nil {
		return nil, ""
	}
	return []byte(newest.Data[settingsKey]), newest.Name
}

// parseSettings reads the arguments of the plugin from a KubeSchedulerConfiguration: those of the profile that Berth's
// pods use.
func parseSettings(text []byte) (gpumap.Settings, error) {
	settings := gpumap.DefaultSettings()
	var config struct {
		Profiles []struct {
			SchedulerName string `json:"schedulerName"`
			PluginConfig  []struct {
				Name string          `json:"name"`
				Args json.RawMessage `json:"args"`
			} `json:"pluginConfig"`
		} `json:"profiles"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return settings, err
	}
	for _, profile := range config.Profiles {
		if profile.SchedulerName != berthv1alpha1.SchedulerName {
			continue
		}
		for _, plugin := range profile.PluginConfig {
			if plugin.Name != pluginName || len(plugin.Args) == 0 {
				continue
			}
			// Fields that are absent keep their defaults.
			if err := json.Unmarshal(plugin.Args, &settings); err != nil {
				return settings, fmt.Errorf("arguments of %s: %w", pluginName, err)
			}
		}
	}
	return settings, nil
}
