// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-berth is the kubectl plugin: kubectl berth top, and more.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	// Kubeconfigs may name any of the credential plugins.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"github.com/berth-dev/berth/pkg/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	command := cli.NewCommand(streams)
	command.SetArgs(cli.EngineSpelling(os.Args[1:]))
	if err := command.ExecuteContext(ctx); err != nil {
		stop()
		os.Exit(cli.ExitCode(err))
	}
}
