// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package scheduler is the program scheduler: kube-scheduler with the Berth plugin. It runs beside the default scheduler
// and places the pods that opt in with schedulerName: berth. Everything that kube-scheduler offers works: leader election,
// metrics, health, flags, other plugins.
package scheduler

import (
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// Main runs the program with the arguments of the process, and returns its exit status.
func Main() int { return cli.Run(newCommand()) }
