// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/pkg/cli/terminal"
	"github.com/berth-dev/berth/pkg/lab/demo"
	"github.com/berth-dev/berth/pkg/lab/fleet"
)

const demoLong = `Bring up a lab with a fleet of unlike GPUs, apply three waves of Deployments made from manifests/examples, and draw
which GPUs each pod got, as "kubectl berth top" does. It fails unless every pod that fits was placed right, and every
pod that does not says why.`

func newDemoCommand(stdout io.Writer) *cobra.Command {
	f := upFlags{fleet: fleet.Demo}
	var keep, noColor bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Take a short tour: place Deployments on simulated GPUs and draw the map",
		Long:  demoLong,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := f.options(cmd)
			if err != nil {
				return err
			}
			return runDemo(cmd.Context(), demo.Options{
				Lab: *options, Out: stdout, Style: terminal.Style(stdout, noColor), Keep: keep,
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&keep, "keep", false, "leave the lab running in the end, until interrupted")
	flags.BoolVar(&noColor, "no-color", false, "do not use colours")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "file for the administrator's kubeconfig, removed when the lab stops (default: one in a temporary folder)")
	flags.StringVar(&f.binDir, "bin-dir", "", binDirUsage)
	flags.StringVar(&f.logDir, "log-dir", "", "folder for logs, which stay there (default: a temporary folder)")
	return cmd
}

func runDemo(ctx context.Context, options demo.Options) error {
	context.AfterFunc(ctx, func() { exitAfter(stopTimeout) })
	began := time.Now()
	err := demo.Run(ctx, options)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("interrupted after " + time.Since(began).Round(time.Second).String())
	}
	return err
}
