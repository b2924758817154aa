// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/lab/child"
	"github.com/berth-dev/berth/pkg/lab/controlplane"
)

const (
	schedulerAccount  = "berth-scheduler"
	controllerAccount = "berth-controller"
	pluginName        = "Berth"
)

// The flags that say where scheduler and controller tell their metrics.
const (
	schedulerPortFlag     = "--secure-port="
	controllerAddressFlag = "--metrics-bind-address="
)

// Leader election is quick on a lab, so that a test that kills the leader need not wait. A Binding is sent only while
// the lease has bindTimeout and a margin left.
const (
	leaseDuration = "6s"
	renewDeadline = "4s"
	retryPeriod   = "500ms"
	bindTimeout   = "1500ms"
)

// startScheduler runs the scheduler under its own account, with the shipped configuration.
func (l *Lab) startScheduler(ctx context.Context) error {
	if len(l.opts.Scheduler) == 0 {
		l.progress("no scheduler is started")
		return nil
	}
	kubeconfig, err := l.accountKubeconfig(ctx, schedulerAccount)
	if err != nil {
		return err
	}
	config, err := schedulerConfig(&l.opts, kubeconfig)
	if err != nil {
		return fmt.Errorf("configuration of the scheduler: %w", err)
	}
	file := filepath.Join(l.dir, "scheduler.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	if err := l.publishSchedulerConfig(ctx, config); err != nil {
		return err
	}
	return l.startChild("scheduler", l.opts.Scheduler, func() ([]string, error) {
		port, err := freePort()
		args := append([]string{
			"--config=" + file,
			"--bind-address=" + loopback,
			schedulerPortFlag + port,
			"--authentication-skip-lookup=true", "--authentication-kubeconfig=" + kubeconfig,
			"--authorization-kubeconfig=" + kubeconfig,
			"--authorization-always-allow-paths=/healthz,/livez,/readyz,/readyz/*,/metrics",
			"--v=2",
		}, l.opts.SchedulerArgs...)
		l.targets.setProgram(schedulerAccount, "https", schedulerPortFlag, args)
		return args, err
	})
}

// publishSchedulerConfig puts the configuration where an installation has it, which tools for people read it from.
func (l *Lab) publishSchedulerConfig(ctx context.Context, config []byte) error {
	_, err := l.client.CoreV1().ConfigMaps(berthv1alpha1.Namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: schedulerAccount, Labels: map[string]string{"app.kubernetes.io/name": schedulerAccount}},
		Data:       map[string]string{"config.yaml": string(config)},
	}, metav1.CreateOptions{})
	return err
}

// startController runs the controller under its own account.
func (l *Lab) startController(ctx context.Context) error {
	if len(l.opts.Controller) == 0 {
		l.progress("no controller is started")
		return nil
	}
	kubeconfig, err := l.accountKubeconfig(ctx, controllerAccount)
	if err != nil {
		return err
	}
	return l.startChild("controller", l.opts.Controller, func() ([]string, error) {
		port, err := freePort()
		args := append([]string{
			"--kubeconfig=" + kubeconfig,
			controllerAddressFlag + net.JoinHostPort(loopback, port),
			"--health-probe-bind-address=127.0.0.1:0",
			"--leader-elect-lease-duration=" + leaseDuration,
			"--leader-elect-renew-deadline=" + renewDeadline,
			"--leader-elect-retry-period=" + retryPeriod,
		}, append(resourceFlags(&l.opts), l.opts.ControllerArgs...)...)
		l.targets.setProgram(controllerAccount, "http", controllerAddressFlag, args)
		return args, err
	})
}

// accountKubeconfig writes a kubeconfig with a token of one of Berth's service accounts.
func (l *Lab) accountKubeconfig(ctx context.Context, account string) (string, error) {
	config, err := l.cp.ServiceAccountConfig(ctx, berthv1alpha1.Namespace, account, nil)
	if err != nil {
		return "", err
	}
	file := filepath.Join(l.dir, account+".kubeconfig")
	return file, controlplane.WriteKubeconfig(file, config)
}

// startChild keeps a program, given with the arguments that come first, running until the lab stops.
func (l *Lab) startChild(name string, program []string, args func() ([]string, error)) error {
	log, err := l.openLog(name)
	if err != nil {
		return err
	}
	p := &child.Process{
		Name: name, Path: program[0], Output: log, Events: l.opts.Progress,
		Args: func() ([]string, error) {
			more, err := args()
			return slices.Concat(program[1:], more), err
		},
	}
	l.children = append(l.children, p)
	l.running.Go(func() {
		if err := p.Run(l.ctx); err != nil {
			l.fail(err)
		}
	})
	l.progress("%s is started, its log is %s", name, log.Name())
	return nil
}

// schedulerConfig returns the shipped configuration changed for a lab: its credentials, quick leader election, and
// on a bare lab reports that never count as stale.
func schedulerConfig(opts *Options, kubeconfig string) ([]byte, error) {
	var config map[string]any
	if err := yaml.Unmarshal(opts.SchedulerConfig, &config); err != nil {
		return nil, err
	}
	section(config, "clientConnection")["kubeconfig"] = kubeconfig
	election := section(config, "leaderElection")
	election["leaseDuration"], election["renewDeadline"], election["retryPeriod"] = leaseDuration, renewDeadline, retryPeriod
	eachArgs(config, func(args map[string]any) {
		args["bindTimeout"] = bindTimeout
		if opts.Bare {
			args["staleAfter"] = "0s"
		}
		if opts.GPUMemoryResource {
			args[resourceArg] = true
		}
	})
	return yaml.Marshal(config)
}

// resourceArg is the argument of the scheduler that has nodes advertise their GPU memory.
const resourceArg = "gpuMemoryResource"

// WantsGPUMemoryResource says whether a KubeSchedulerConfiguration has that argument.
func WantsGPUMemoryResource(schedulerConfig []byte) (wants bool, err error) {
	var config map[string]any
	err = yaml.Unmarshal(schedulerConfig, &config)
	eachArgs(config, func(args map[string]any) { wants = wants || args[resourceArg] == true })
	return wants, err
}

// resourceFlags are the controller's flags for it, with the scheduler's headroom.
func resourceFlags(opts *Options) (flags []string) {
	if !opts.GPUMemoryResource {
		return nil
	}
	var config map[string]any
	_ = yaml.Unmarshal(opts.SchedulerConfig, &config) // the scheduler says what is wrong with it
	flags = []string{"--gpu-memory-resource"}
	eachArgs(config, func(args map[string]any) {
		if headroom, ok := args["headroom"].(string); ok {
			flags = append(flags, "--headroom="+headroom)
		}
	})
	return flags
}

// eachArgs calls f for the arguments of Berth in each profile.
func eachArgs(config map[string]any, f func(args map[string]any)) {
	profiles, _ := config["profiles"].([]any)
	for _, profile := range profiles {
		plugins, _ := section(profile)["pluginConfig"].([]any)
		for _, plugin := range plugins {
			if section(plugin)["name"] == pluginName {
				f(section(plugin, "args"))
			}
		}
	}
}

// section returns the object at a path of keys below an object, and makes what is missing of it.
func section(object any, keys ...string) map[string]any {
	s, ok := object.(map[string]any)
	if !ok {
		return map[string]any{}
	}
	for _, key := range keys {
		below, ok := s[key].(map[string]any)
		if !ok {
			below = map[string]any{}
			s[key] = below
		}
		s = below
	}
	return s
}
