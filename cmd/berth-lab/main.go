// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command berth-lab runs Berth on a real Kubernetes control plane with simulated GPU nodes, on one machine.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/internal/program/controller"
	"github.com/berth-dev/berth/internal/program/scheduler"
	"github.com/berth-dev/berth/internal/version"
)

// programs are those that the lab runs as processes of their own. They are within this one, so that one build is enough:
// "berth-lab scheduler" is the scheduler.
var programs = map[string]func() int{
	"scheduler":  scheduler.Main,
	"controller": func() int { dropGlobalFlags(); return controller.Main() },
}

// dropGlobalFlags drops the global flags of the control plane's libraries, a --version of their own among them, which the
// scheduler alone takes.
func dropGlobalFlags() { pflag.CommandLine = pflag.NewFlagSet("", pflag.ContinueOnError) }

func main() {
	if len(os.Args) > 1 {
		if program, ok := programs[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(program())
		}
	}
	// stdout is for the one line that programs read; whatever a library may print is for people.
	stdout := os.Stdout
	os.Stdout = os.Stderr

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	dropGlobalFlags()
	root := newCommand(stdout)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func newCommand(stdout io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "berth-lab",
		Short:         "Run Berth on a real Kubernetes control plane with simulated GPU nodes",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(stdout)
	root.AddCommand(newUpCommand(stdout), newDemoCommand(stdout))
	return root
}

// exitAfter ends the process if it is still there after d.
func exitAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		fmt.Fprintf(os.Stderr, "Error: not stopped within %s\n", d)
		os.Exit(1)
	})
}
