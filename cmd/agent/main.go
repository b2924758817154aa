// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command agent reports what the GPUs of its node really hold. It runs on every GPU node as a DaemonSet.
package main

import (
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
)

func main() {
	if err := cli.RunNoErrOutput(newCommand()); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}
