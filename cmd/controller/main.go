// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controller looks up how large models are, for the scheduler, and keeps what agents measured of them.
package main

import (
	"fmt"
	"os"

	// Its image consists of the binary alone: where the machine has no certificates of its own, these are used.
	_ "golang.org/x/crypto/x509roots/fallback"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
)

func main() {
	if err := cli.RunNoErrOutput(newCommand()); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}
