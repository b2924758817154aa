// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controller is the program controller, which looks up how large models are, for the scheduler, and keeps what
// agents measured of them.
package controller

import (
	"fmt"
	"os"

	// Its image consists of the binary alone: where the machine has no certificates of its own, these are used.
	_ "golang.org/x/crypto/x509roots/fallback"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
)

// Main runs the program with the arguments of the process, and returns its exit status.
func Main() int {
	if err := cli.RunNoErrOutput(newCommand()); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		return 1
	}
	return 0
}
