// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/lab"
	"github.com/berth-dev/berth/pkg/lab/fleet"
)

const (
	// startTimeout bounds the start; it takes a few seconds on an idle machine.
	startTimeout = 5 * time.Minute
	// stopTimeout bounds the stop; all parts of it are bounded themselves, by less.
	stopTimeout = 30 * time.Second
	binDirUsage = "folder of the programs scheduler and controller (default: those beside berth-lab, else those within it)"
	// schedulerConfig is the file of the manifests with the scheduler's configuration.
	schedulerConfig = "scheduler/config.yaml"
	// resourceComponent has the policies by which pods ask for their GPU memory as a resource.
	resourceComponent = "components/gpu-memory-resource"
)

const upLong = `Bring up a Kubernetes control plane (etcd, kube-apiserver and controllers, v1.37), install Berth's manifests, run
Berth's scheduler and controller as processes of their own, and simulate nodes, their GPUs and the pods on them.

When all of this was seen to work, one line is printed on stdout, and nothing else:

  ready: KUBECONFIG=/path/of/the/administrators/kubeconfig

The lab then runs until it is interrupted, or for the time given by --for, and leaves nothing behind. Several labs can
run at once. What the simulated hardware does can be changed while it runs, by annotations:

  kubectl annotate node gpu-0 --overwrite lab.berth.dev/foreign-memory=0=60Gi   # somebody else's process on GPU 0
  kubectl annotate node gpu-0 --overwrite lab.berth.dev/unhealthy=3=Xid79       # GPU 3 fails
  kubectl annotate pod server --overwrite lab.berth.dev/gpu-memory=50Gi         # what it really takes on each GPU
  kubectl annotate pod server --overwrite lab.berth.dev/gpu-active=false        # it computes no longer; unknown: nobody can tell

and how pods behave by annotations on them: lab.berth.dev/ready-after=30s (it loads for that long) and
lab.berth.dev/run-for=1m (it then succeeds).`

const upExample = `  # Two nodes of 8 H100
  berth-lab up --kubeconfig lab.kubeconfig &
  kubectl --kubeconfig lab.kubeconfig get gpunodes

  # Ten nodes of 4 A100-40, for a minute
  berth-lab up --nodes 10 --gpus 4 --gpu-model A100-40 --for 1m

  # Unlike nodes: those of the demo, or Node objects from a file with the annotation lab.berth.dev/gpus
  berth-lab up --fleet demo

  # Before an older apiserver, built by "make test-skew"
  berth-lab up --kube-apiserver=bin/skew/kube-apiserver-1.36

  # Quotas and autoscalers count GPU memory, see docs/quota.md
  berth-lab up --gpu-memory-resource

  # With Prometheus beside it, see docs/monitoring.md
  berth-lab up --monitoring

  # No nodes: Node and GPUNode objects are made by a test
  berth-lab up --bare`

// upFlags are the flags of the up command.
type upFlags struct {
	kubeconfig, binDir, logDir, fleet, gpuModel, schedulerConfig string
	nodes, gpus                                                  int
	bare, noScheduler, noController                              bool
	runFor                                                       time.Duration
	schedulerArgs, controllerArgs                                []string
	kubeAPIServer                                                string
	apiserverArgs                                                []string
	gpuMemoryResource                                            bool
	monitoring                                                   monitoringFlags
}

func newUpCommand(stdout io.Writer) *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Bring up a lab and run it until interrupted",
		Long:    upLong,
		Example: upExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := f.options(cmd)
			if err != nil {
				return err
			}
			return up(cmd.Context(), stdout, options, f.runFor)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "file for the administrator's kubeconfig, written when the lab is ready and removed when it stops (default: one in a temporary folder)")
	flags.IntVar(&f.nodes, "nodes", 2, "number of simulated nodes, named gpu-0 and so on")
	flags.IntVar(&f.gpus, "gpus", 8, "number of GPUs of each node")
	flags.StringVar(&f.gpuModel, "gpu-model", "H100-80", "model of the GPUs")
	flags.StringVar(&f.fleet, "fleet", "", "file of Node objects to simulate instead, or \"demo\"")
	flags.BoolVar(&f.bare, "bare", false, "simulate no nodes and run no agents: Node and GPUNode objects are the caller's, and no report counts as stale")
	flags.DurationVar(&f.runFor, "for", 0, "stop by itself after this time, counted from when it is ready (default: run until interrupted)")
	flags.StringVar(&f.binDir, "bin-dir", "", binDirUsage)
	flags.BoolVar(&f.noScheduler, "no-scheduler", false, "do not run the scheduler")
	flags.BoolVar(&f.noController, "no-controller", false, "do not run the controller")
	flags.StringVar(&f.schedulerConfig, "scheduler-config", "", "file of a KubeSchedulerConfiguration (default: that of the manifests)")
	flags.StringArrayVar(&f.schedulerArgs, "scheduler-arg", nil, "further argument of the scheduler, such as --v=4 (repeatable)")
	flags.StringArrayVar(&f.controllerArgs, "controller-arg", nil, "further argument of the controller (repeatable)")
	flags.BoolVar(&f.gpuMemoryResource, "gpu-memory-resource", false, "have nodes advertise their GPU memory as the resource berth.dev/gpu-memory, and pods ask for it; so does the argument gpuMemoryResource in --scheduler-config")
	flags.StringVar(&f.kubeAPIServer, "kube-apiserver", "", "program to run as kube-apiserver, of Kubernetes 1.34 or later (default: the v1.37 that is linked in); policies that it does not serve are left out")
	flags.StringArrayVar(&f.apiserverArgs, "apiserver-arg", nil, "further argument of kube-apiserver, such as --emulated-version=1.36 (repeatable)")
	flags.StringVar(&f.logDir, "log-dir", "", "folder for logs, which stay there (default: a temporary folder)")
	f.monitoring.add(flags)
	for _, sized := range []string{"nodes", "gpus", "gpu-model"} {
		cmd.MarkFlagsMutuallyExclusive("bare", "fleet", sized)
	}
	return cmd
}

// options turns the flags into those of the lab.
func (f *upFlags) options(cmd *cobra.Command) (*lab.Options, error) {
	options := &lab.Options{
		Bare: f.bare, Progress: cmd.ErrOrStderr(), SchedulerArgs: f.schedulerArgs, ControllerArgs: f.controllerArgs,
		APIServerArgs: f.apiserverArgs,
	}
	var err error
	if options.Nodes, err = f.simulated(); err != nil {
		return nil, err
	}
	if options.Monitoring, err = f.monitoring.options(); err != nil {
		return nil, err
	}
	if options.Objects, err = manifests.Objects("."); err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	if f.kubeAPIServer != "" {
		if options.KubeAPIServer, err = executable(f.kubeAPIServer); err != nil {
			return nil, fmt.Errorf("--kube-apiserver: %w", err)
		}
	}
	if f.kubeconfig != "" {
		if options.Kubeconfig, err = filepath.Abs(f.kubeconfig); err != nil {
			return nil, err
		}
	}
	if f.logDir != "" {
		if options.LogDir, err = filepath.Abs(f.logDir); err != nil {
			return nil, err
		}
	}
	if !f.noScheduler {
		if options.Scheduler, err = f.program("scheduler"); err != nil {
			return nil, fmt.Errorf("--bin-dir: %w: run \"make build\", or leave the flag out", err)
		}
		if options.SchedulerConfig, err = f.schedulerConfiguration(); err != nil {
			return nil, err
		}
	}
	if !f.noController {
		// Only pods that name a model instead of an amount of memory need the controller.
		if options.Controller, err = f.program("controller"); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %s: models are not looked up\n", err)
		}
	}
	return options, f.addResource(options)
}

// addResource adds the policies by which pods ask for their GPU memory as a resource, if nodes are to advertise it.
func (f *upFlags) addResource(options *lab.Options) error {
	wants, err := lab.WantsGPUMemoryResource(options.SchedulerConfig)
	if err != nil {
		return fmt.Errorf("--scheduler-config: %w", err)
	}
	if options.GPUMemoryResource = wants || f.gpuMemoryResource; !options.GPUMemoryResource {
		return nil
	}
	policies, err := manifests.Objects(resourceComponent)
	if err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	options.Objects = append(options.Objects, policies...)
	return nil
}

// program returns how to run one of the programs: the file of that name in the folder that is given or, without one,
// beside this program; where there is none, this program itself, which contains it.
func (f *upFlags) program(name string) ([]string, error) {
	if f.binDir != "" {
		path, err := executable(filepath.Join(f.binDir, name))
		if err != nil {
			return nil, err
		}
		return []string{path}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if path, err := executable(filepath.Join(filepath.Dir(self), name)); err == nil {
		return []string{path}, nil
	}
	return []string{self, name}, nil
}

// schedulerConfiguration returns the KubeSchedulerConfiguration to run the scheduler with.
func (f *upFlags) schedulerConfiguration() ([]byte, error) {
	if f.schedulerConfig != "" {
		return os.ReadFile(f.schedulerConfig)
	}
	config, err := fs.ReadFile(manifests.FS, schedulerConfig)
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	return config, nil
}

// simulated returns the nodes to simulate.
func (f *upFlags) simulated() ([]*corev1.Node, error) {
	switch {
	case f.bare:
		return nil, nil
	case f.fleet != "":
		return fleet.Load(f.fleet)
	}
	return fleet.Uniform(f.nodes, f.gpus, f.gpuModel)
}

// executable returns the absolute path of an executable file.
func executable(file string) (string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode()&0o111 == 0 || info.IsDir() {
		return "", fmt.Errorf("%s is not a program", path)
	}
	return path, nil
}

// up runs a lab until ctx is cancelled, runFor is over or it fails.
func up(ctx context.Context, stdout io.Writer, options *lab.Options, runFor time.Duration) error {
	starting, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %s", startTimeout))
	defer cancel()
	// A lab that hangs must not stay.
	defer context.AfterFunc(ctx, func() { exitAfter(stopTimeout) })()
	l, err := lab.Up(starting, *options)
	switch {
	case ctx.Err() != nil && err != nil:
		return fmt.Errorf("ended before the lab was ready: %w", context.Cause(ctx))
	case starting.Err() != nil && err != nil:
		return fmt.Errorf("%w: %w", context.Cause(starting), err)
	case err != nil:
		return err
	}
	fmt.Fprintf(stdout, "ready: KUBECONFIG=%s\n", l.Kubeconfig())
	var over <-chan time.Time
	if runFor > 0 {
		over = time.After(runFor)
	}
	select {
	case <-ctx.Done():
	case <-over:
		exitAfter(stopTimeout)
	case err = <-l.Failed():
		exitAfter(stopTimeout)
	}
	return errors.Join(err, l.Stop())
}
