// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/tools/cache"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/cli/globalflag"
	basecompatibility "k8s.io/component-base/compatibility"
	"k8s.io/component-base/featuregate"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/term"
	"k8s.io/component-base/version/verflag"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	schedulerserverconfig "k8s.io/kubernetes/cmd/kube-scheduler/app/config"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"github.com/berth-dev/berth/internal/firstlist"
	"github.com/berth-dev/berth/internal/memlimit"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin"
	pluginconfig "github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/policies"
)

// newCommand returns kube-scheduler's command, with the plugin in it. It does what app.NewSchedulerCommand does, but
// that one lets nobody come between app.Setup, which makes the leader election, and app.Run, which runs it.
func newCommand() *cobra.Command { return newCommandOf(options.NewOptions()) }

func newCommandOf(opts *options.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scheduler",
		Short: "kube-scheduler with the Berth plugin",
		Long: "A Kubernetes scheduler that gives LLM inference pods the GPU memory that they need, on the GPUs that have it.\n" +
			"It is kube-scheduler with the plugin " + plugin.Name + "; give it manifests/scheduler/config.yaml, or one like it, by --config.",
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := emulateServer(cmd.Context(), cmd.Flags()); err != nil {
				return err
			}
			return opts.ComponentGlobalsRegistry.Set()
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, opts) },
		Args: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if arg != "" {
					return fmt.Errorf("%q does not take any arguments, got %q", cmd.CommandPath(), args)
				}
			}
			return nil
		},
	}
	flags := opts.Flags
	verflag.AddFlags(flags.FlagSet("global"))
	globalflag.AddGlobalFlags(flags.FlagSet("global"), cmd.Name(), logs.SkipLoggingConfigurationFlags())
	for _, set := range flags.FlagSets {
		cmd.Flags().AddFlagSet(set)
	}
	columns, _, _ := term.TerminalSize(cmd.OutOrStdout())
	cliflag.SetUsageAndHelpFunc(cmd, *flags, columns)
	if err := cmd.MarkFlagFilename("config", "yaml", "yml", "json"); err != nil {
		klog.Background().Error(err, "Failed to mark flag filename")
	}
	return cmd
}

// run runs the scheduler until it is told to end, or loses its lease.
func run(cmd *cobra.Command, opts *options.Options) error {
	if f := cmd.Flags().Lookup("version"); f != nil && f.Changed {
		// kube-scheduler's own --version follows, with the version of Kubernetes.
		fmt.Println("Berth " + version.String())
	}
	verflag.PrintAndExitIfRequested()
	gates := opts.ComponentGlobalsRegistry.FeatureGateFor(basecompatibility.DefaultKubeComponent)
	if err := logsapi.ValidateAndApply(opts.Logs, gates); err != nil {
		return err
	}
	cliflag.PrintFlags(cmd.Flags())
	if os.Getenv("GOGC") == "" {
		// On large clusters most of the memory is what informers keep. That it is tidied up twice as often takes 7 % more CPU time
		// while pods come as fast as they can, and nothing else.
		debug.SetGCPercent(50)
	}
	memlimit.Set(memlimit.Cgroup())
	if opts.InformerName == nil {
		name, err := cache.NewInformerName("kube-scheduler")
		if err != nil {
			return err
		}
		opts.InformerName = name
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-server.SetupSignalHandler()
		cancel()
	}()

	lead, lists := leader.New(), firstlist.NewGuard()
	utilruntime.ErrorHandlers = append(utilruntime.ErrorHandlers, lists.HandleError)
	inForce := &policies.State{}
	newPlugin := plugin.NewFor(lead, inForce)
	config, scheduler, err := app.Setup(ctx, opts, app.WithPlugin(plugin.Name,
		func(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
			lists.Watch(handle.SharedInformerFactory())
			return newPlugin(ctx, args, handle)
		}), withTopology())
	if err != nil {
		return err
	}
	if err := guard(config, lead); err != nil {
		return err
	}
	gates.(featuregate.MutableFeatureGate).AddMetrics()
	opts.ComponentGlobalsRegistry.AddMetrics()
	if err := serve(ctx, config, scheduler, lead.Leading, healthz.NamedCheck("berth-policies", func(*http.Request) error { return inForce.Err() })); err != nil {
		return err
	}
	return app.Run(ctx, config, scheduler)
}

// guard lets lead know of the leader election. A process that another one took the place of ends at once: the elector
// would keep it alive until its renewDeadline.
func guard(config *schedulerserverconfig.CompletedConfig, lead *leader.Leader) error {
	election := config.LeaderElection
	if election == nil {
		lead.Alone()
		return nil
	}
	if err := pluginconfig.CheckTimes(config.ComponentConfig.Profiles, election.LeaseDuration, election.RetryPeriod); err != nil {
		return err
	}
	election.Lock = lead.Guard(election.Lock, func(err error) {
		klog.ErrorS(err, "Leader election lost")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	})
	return nil
}
