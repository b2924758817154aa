// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command scheduler is kube-scheduler with the Berth plugin.
package main

import (
	"os"

	"github.com/berth-dev/berth/internal/program/scheduler"
)

func main() { os.Exit(scheduler.Main()) }
