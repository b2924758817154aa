// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-berth is the kubectl plugin: kubectl berth top, and more.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	// Kubeconfigs may name any of the credential plugins.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"github.com/berth-dev/berth/pkg/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		// Somebody waits for an answer, and the program ends with it: it need not tidy up often while there is memory.
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(2 << 30)
	}
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	command := cli.NewCommand(streams)
	command.SetArgs(cli.EngineSpelling(os.Args[1:]))
	if err := command.ExecuteContext(ctx); err != nil {
		stop()
		os.Exit(cli.ExitCode(err))
	}
}
