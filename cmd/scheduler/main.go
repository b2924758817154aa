// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command scheduler is kube-scheduler with the Berth plugin. It runs beside the default scheduler and places the pods
// that opt in with schedulerName: berth. Everything that kube-scheduler offers works: leader election, metrics,
// health, flags, other plugins.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/plugin"
)

func main() {
	command := app.NewSchedulerCommand(app.WithPlugin(plugin.Name, plugin.New), withTopology())
	command.Use = "scheduler"
	command.Short = "kube-scheduler with the Berth plugin"
	command.Long = "A Kubernetes scheduler that gives LLM inference pods the GPU memory that they need, on the GPUs that have it.\n" +
		"It is kube-scheduler with the plugin " + plugin.Name + "; give it manifests/scheduler/config.yaml, or one like it, by --config."
	command.PreRun = func(cmd *cobra.Command, _ []string) {
		// kube-scheduler's own --version follows, with the version of Kubernetes.
		if f := cmd.Flags().Lookup("version"); f != nil && f.Changed {
			fmt.Println("Berth " + version.String())
		}
	}
	os.Exit(cli.Run(command))
}
