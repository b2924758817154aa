// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controller looks up how large models are, for the scheduler, and keeps what agents measured of them.
package main

import (
	"os"

	"github.com/berth-dev/berth/internal/program/controller"
)

func main() { os.Exit(controller.Main()) }
