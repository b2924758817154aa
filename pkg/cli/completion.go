// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/pkg/cli/repair"
)

// completeNodes returns the names of nodes with GPUs, but for those that are given.
func (s *source) completeNodes(ctx context.Context, given []string) ([]cobra.Completion, cobra.ShellCompDirective) {
	client, err := s.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := client.GPUNodeNames(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(given, name) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeOn completes the names of a command's node and of GPUs on it: of all, or of those that are cordoned.
func (o *repairOptions) completeOn(command *cobra.Command, cordoned bool) {
	command.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return (&source{flags: o.flags}).completeNodes(cmd.Context(), nil)
	}
	// It fails on flags that are not there.
	_ = command.RegisterFlagCompletionFunc("gpu", func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return cobra.AppendActiveHelp(nil, "Name the node first"), cobra.ShellCompDirectiveNoFileComp
		}
		client, err := o.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		gpus, err := client.GPUs(cmd.Context(), args[0], cordoned)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return gpuNames(gpus, typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// gpuNames returns what a list of GPUs can be continued by, of which all but the last name is typed: indexes and UUIDs, each with
// the other one as its description.
func gpuNames(gpus []repair.GPU, typed string) (names []cobra.Completion) {
	before := typed[:strings.LastIndex(typed, ",")+1]
	given := strings.Split(before, ",")
	for _, g := range gpus {
		number := g.Number()
		if slices.Contains(given, g.UUID) || number != "" && slices.Contains(given, number) {
			continue
		}
		if number != "" {
			names = append(names, cobra.CompletionWithDesc(before+number, g.UUID))
		}
		names = append(names, cobra.CompletionWithDesc(before+g.UUID, g.String()))
	}
	return names
}
