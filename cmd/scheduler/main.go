// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command scheduler is kube-scheduler with the Berth plugin. It runs beside the default scheduler and places the pods
// that opt in with schedulerName: berth. Everything that kube-scheduler offers works: leader election, metrics,
// health, flags, other plugins.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/berth-dev/berth/internal/firstlist"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/plugin"
)

func main() {
	guard := firstlist.NewGuard()
	utilruntime.ErrorHandlers = append(utilruntime.ErrorHandlers, guard.HandleError)
	command := app.NewSchedulerCommand(app.WithPlugin(plugin.Name, func(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		guard.Watch(handle.SharedInformerFactory())
		return plugin.New(ctx, args, handle)
	}))
	command.Use = "scheduler"
	command.Short = "kube-scheduler with the Berth plugin"
	command.Long = "A Kubernetes scheduler that gives LLM inference pods the GPU memory that they need, on the GPUs that have it.\n" +
		"It is kube-scheduler with the plugin " + plugin.Name + "; give it manifests/scheduler/config.yaml, or one like it, by --config."
	setVersions := command.PersistentPreRunE
	command.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if err := emulateServer(cmd.Context(), cmd.Flags()); err != nil {
			return err
		}
		return setVersions(cmd, args)
	}
	command.PreRun = func(cmd *cobra.Command, _ []string) {
		// kube-scheduler's own --version follows, with the version of Kubernetes.
		if f := cmd.Flags().Lookup("version"); f != nil && f.Changed {
			fmt.Println("Berth " + version.String())
		}
	}
	os.Exit(cli.Run(command))
}
