// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is kubectl berth: tools for people, which run the scheduler's own code on the user's machine over the
// API objects, so that they need no server of their own.
package cli

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/internal/version"
)

// NewCommand returns the command kubectl berth.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	root := &cobra.Command{
		Use:     "kubectl-berth",
		Short:   "See GPU memory as the Berth scheduler does",
		Version: version.String(),
		// An error of the cluster is no reason to print how the command is used.
		SilenceUsage: true,
		Annotations:  map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl berth"},
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	flags := genericclioptions.NewConfigFlags(true)
	// GPUs belong to nodes, which have no namespace.
	flags.Namespace = nil
	flags.AddFlags(root.PersistentFlags())
	root.AddCommand(newTopCommand(flags, streams), newEstimateCommand(flags, streams),
		newExplainCommand(flags, streams), newWhatIfCommand(flags, streams), newPlanCommand(flags, streams), newReplayCommand(streams),
		newSnapshotCommand(flags, streams), newCheckCommand(flags, streams), newUICommand(flags, streams),
		newCordonCommand(flags, streams), newUncordonCommand(flags, streams), newDrainCommand(flags, streams))
	return root
}
