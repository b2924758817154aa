// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/agent/cdispec"
	"github.com/berth-dev/berth/pkg/agent/cgroup"
	"github.com/berth-dev/berth/pkg/agent/containerruntime"
	"github.com/berth-dev/berth/pkg/agent/kube"
	"github.com/berth-dev/berth/pkg/agent/nvml"
	"github.com/berth-dev/berth/pkg/agent/pci"
	"github.com/berth-dev/berth/pkg/agent/podlogs"
	"github.com/berth-dev/berth/pkg/agent/podresources"
)

const (
	// userAgent is what the API server's audit log calls the agent.
	userAgent = "berth-agent"
	// stopTimeout is how long the agent waits for a call into the driver to return before it exits without it.
	stopTimeout = 5 * time.Second
)

func newCommand() *cobra.Command {
	o := &options{}
	logs := logsapi.NewLoggingConfiguration()
	command := &cobra.Command{
		Use:   "agent",
		Short: "Report what the GPUs of this node really hold",
		Long: "The agent reads the node's GPUs through NVML, finds out which pods their memory belongs to, and writes it to\n" +
			"the GPUNode of the node. With --once it prints that report instead. Every flag can also be set by the environment\n" +
			"variable in brackets.",
		Args:          cobra.NoArgs,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := logsapi.ValidateAndApply(logs, nil); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if err := o.complete(); err != nil {
				return err
			}
			if o.once {
				return printOnce(ctx, o, command.OutOrStdout())
			}
			return run(ctx, o)
		},
	}
	o.addFlags(command.Flags())
	own := command.Flags()
	command.PreRunE = func(*cobra.Command, []string) error { return addEnv(own, os.LookupEnv) }
	logsapi.AddFlags(logs, command.Flags())
	return command
}

// newReader returns what reads the GPUs of this machine.
func newReader(o *options) agent.Reader {
	return pci.NewReader(nvml.New(nvml.Options{LibraryPath: o.nvmlLibrary}), o.sysRoot)
}

// printOnce prints the report of one reading as a GPUNode.
func printOnce(ctx context.Context, o *options, out io.Writer) error {
	reader := newReader(o)
	defer reader.Close()
	status, err := agent.Once(ctx, reader, cgroup.NewAttributor(o.procRoot), clock.RealClock{})
	if err != nil {
		return err
	}
	if o.hostRoot != "" {
		if found := containerruntime.Read(o.hostRoot, o.hostFolders, containerruntime.Node{}); len(found.Runtimes) > 0 {
			for i := range found.Runtimes {
				found.Runtimes[i].MemoryLimits = nil // which depends on driver and node too
			}
			status.HandOff = &berthv1alpha1.HandOff{Runtimes: found.Runtimes}
		}
	}
	gn := &berthv1alpha1.GPUNode{
		TypeMeta:   metav1.TypeMeta{APIVersion: berthv1alpha1.GroupVersion.String(), Kind: "GPUNode"},
		ObjectMeta: metav1.ObjectMeta{Name: o.nodeName},
		Status:     *status,
	}
	var text []byte
	if o.output == "json" {
		text, err = json.MarshalIndent(gn, "", "  ")
		text = append(text, '\n')
	} else {
		text, err = yaml.Marshal(gn)
	}
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	_, err = out.Write(text)
	return err
}

// run reports until ctx ends.
func run(ctx context.Context, o *options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	config.UserAgent = userAgent + "/" + version.String()
	a, err := newAgent(o, config)
	if err != nil {
		return err
	}
	if o.listenAddress != "" {
		stop, err := serve(o, config, a)
		if err != nil {
			return err
		}
		defer stop()
	}
	klog.FromContext(ctx).Info("Agent started", "node", o.nodeName, "version", version.String())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done:
		case <-time.After(stopTimeout):
			return errors.New("a call into the driver does not return, exiting without it")
		}
	}
	if errors.Is(err, agent.ErrStaleLibrary) {
		return restart(ctx, err)
	}
	return err
}

// newAgent connects the parts.
func newAgent(o *options, config *rest.Config) (*agent.Agent, error) {
	client, err := kube.NewClient(config, o.nodeName)
	if err != nil {
		return nil, err
	}
	attributor := cgroup.NewAttributor(o.procRoot)
	if o.stateFile != "" {
		if err := attributor.Remember(o.stateFile); err != nil {
			klog.Background().Error(err, "Starting without what was known of processes")
		}
	}
	options := agent.Options{
		NodeName:       o.nodeName,
		Reader:         newReader(o),
		Attributor:     attributor,
		Client:         client,
		ReadInterval:   o.readInterval,
		ReportInterval: o.reportInterval,
		LeaseInterval:  o.leaseInterval,
		Quantum:        o.quantumBytes,
	}
	// The root of cgroups of version 2 has this file, in a container too.
	if _, err := os.Stat(filepath.Join(o.sysRoot, "fs/cgroup/cgroup.controllers")); err != nil {
		options.LimitsFail = agent.NoUnifiedCgroups
	}
	if o.hostRoot != "" {
		options.Runtimes = &hostRuntimes{client: client, root: o.hostRoot, folders: o.hostFolders}
	}
	if o.nri {
		options.Specification = &cdispec.Writer{Dir: o.cdiSpecDir, ProcRoot: o.procRoot}
	}
	if o.podLogsDir != "" {
		options.Names = podlogs.Dir(o.podLogsDir)
	}
	if o.podResourcesSocket != "" {
		if options.Assignments, err = podresources.New(o.podResourcesSocket); err != nil {
			return nil, err
		}
	}
	return agent.New(options)
}
