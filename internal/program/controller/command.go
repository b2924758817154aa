// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/berth-dev/berth/internal/memlimit"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/controller"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// userAgent is what the API server's audit log, and model hubs, call the controller.
const userAgent = "berth-controller"

func newCommand() *cobra.Command {
	o := &options{}
	logs := logsapi.NewLoggingConfiguration()
	command := &cobra.Command{
		Use:   "controller",
		Short: "Look up how large models are, before they are scheduled",
		Long: "The controller makes a ModelProfile for each model that a pending pod names (annotation berth.dev/model), reads\n" +
			"the headers of the model's files to learn what it needs, and tells pods that wait for that by Event. It also takes\n" +
			"down what agents measure of pods that run a model. It is the only part of Berth that talks to model hubs; where it\n" +
			"may go, and with whose token, is for an admin to say: by flags, or by a file (--config).",
		Example: "  # As a pod of the cluster\n  controller --config=/etc/berth/controller.yaml\n\n" +
			"  # Behind a mirror in the cluster, with a model store that is mounted\n" +
			"  controller --hf-endpoint=http://hub-mirror.models.svc:8080 --model-root=/models",
		Args:          cobra.NoArgs,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			if err := logsapi.ValidateAndApply(logs, nil); err != nil {
				return err
			}
			ctrl.SetLogger(klog.Background())
			return run(ctrl.SetupSignalHandler(), o)
		},
	}
	o.addFlags(command.Flags())
	logsapi.AddFlags(logs, command.Flags())
	return command
}

// run works until ctx ends.
func run(ctx context.Context, o *options) error {
	from, err := o.complete()
	if err != nil {
		return err
	}
	resolver, err := from.resolver(userAgent + "/" + version.String())
	if err != nil {
		return err
	}
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	if err := controller.Add(mgr, resolver, o.controller); err != nil {
		return err
	}
	for _, add := range []func(string, healthz.Checker) error{mgr.AddHealthzCheck, mgr.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return err
		}
	}
	limit := memlimit.Set(memlimit.Cgroup())
	klog.FromContext(ctx).Info("Controller started", "version", version.String(), "memoryLimit", limit)
	return mgr.Start(ctx)
}

func newManager(o *options) (ctrl.Manager, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	config.UserAgent = userAgent + "/" + version.String()
	// A limit here would let one tenant's flood of pods delay all others. What the workers can have in flight is little, and
	// the API server shares itself out (API Priority and Fairness).
	config.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, gpunode.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         controller.CacheOptions(),
		Metrics:                       server.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.healthAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              o.leaseName,
		LeaderElectionNamespace:       o.leaseNamespace,
		LeaderElectionReleaseOnCancel: true, // nothing runs after Start returned but the end of the process
		LeaseDuration:                 &o.leaseDuration,
		RenewDeadline:                 &o.renewDeadline,
		RetryPeriod:                   &o.retryPeriod,
	})
}
