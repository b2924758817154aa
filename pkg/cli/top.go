// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/cli/terminal"
	"github.com/berth-dev/berth/pkg/cli/usage"
)

const topExample = `  # All nodes with GPUs
  kubectl berth top

  # Two nodes, again and again
  kubectl berth top gpu-a gpu-b --watch

  # Who uses what: by namespace, by what owns the pods, by a label of theirs
  kubectl berth top --by namespace
  kubectl berth top --by owner -n search
  kubectl berth top --by app.kubernetes.io/part-of -o csv

  # The most free memory on one GPU, for scripts
  kubectl berth top -o json | jq '[.nodes[].devices[].free] | max'`

// watchInterval is how often --watch looks. A look lists all pods, which is no more than kubectl get pods -A does.
const watchInterval = 2 * time.Second

// topOptions are the flags of kubectl berth top.
type topOptions struct {
	genericiooptions.IOStreams
	source source

	nodes   []string
	by      string
	output  string
	noColor bool
	watch   bool

	// grouping is by, read.
	grouping *usage.By
}

func newTopCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &topOptions{IOStreams: streams, source: source{flags: flags}}
	command := &cobra.Command{
		Use:   "top [NODE...]",
		Short: "Show the memory of every GPU, or who uses how much of it",
		Long: "Show the memory of every GPU: booked, measured and free, by which pods; then the pods that wait, and why.\n\n" +
			"With --by, show who uses what instead: what is booked, measured and idle, added up, the largest first; then the pods\n" +
			"whose booking is far from what was measured of pods like them, with the line to write.\n\n" +
			"It is the scheduler's own view of the cluster, made on this machine from the API objects.",
		Example: topExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.nodes = args
			if err := o.check(cmd.Flags().Changed("by")); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return o.source.completeNodes(cmd.Context(), args)
		},
	}
	f := command.Flags()
	f.StringVar(&o.by, "by", "", "Show who uses what, by "+strings.Join(usage.Keys, ", ")+", or by the key of a label of pods (label=KEY if it is one of these)")
	f.StringVarP(&o.output, "output", "o", "", "Output format: json, or wide for the identity of each GPU; with --by: table, json or csv")
	f.StringVar(&o.source.file, "from", "", "Read the cluster from a file of kubectl berth snapshot, or of kubectl get -o yaml, instead")
	f.StringVarP(&o.source.name, "namespace", "n", "", "With --by: count the pods of this namespace only")
	f.BoolVar(&o.noColor, "no-color", false, "Do not use colours; also by setting NO_COLOR, and when the output is no terminal")
	f.BoolVarP(&o.watch, "watch", "w", false, "Look again every "+watchInterval.String()+" until interrupted")
	// It fails on flags that are not there.
	_ = command.RegisterFlagCompletionFunc("by", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return usage.Keys, cobra.ShellCompDirectiveNoFileComp
	})
	_ = command.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return o.outputs(), cobra.ShellCompDirectiveNoFileComp
	})
	return command
}

// outputs are the output formats.
func (o *topOptions) outputs() []string {
	if o.by != "" {
		return []string{"table", "json", "csv"}
	}
	return []string{"json", "wide"}
}

// check reads the flags; by says that --by was given.
func (o *topOptions) check(by bool) error {
	if by {
		grouping, err := usage.ParseBy(o.by)
		if err != nil {
			return fmt.Errorf("--by=%s: %w", o.by, err)
		}
		o.grouping = &grouping
	}
	switch {
	case o.output == "" || slices.Contains(o.outputs(), o.output):
	case by:
		return fmt.Errorf("--output=%s is not known: use table, json or csv", o.output)
	case o.output == "csv" || o.output == "table":
		return fmt.Errorf("--output=%s is for --by, which says by what to add up, such as --by namespace", o.output)
	default:
		return fmt.Errorf("--output=%s is not known: use json or wide", o.output)
	}
	switch {
	case o.source.name != "" && !by:
		return errors.New("--namespace is for --by: GPUs belong to nodes, which have no namespace")
	case o.source.file != "" && o.watch:
		return errors.New("--watch is of no use with --from: a file does not change")
	}
	return nil
}

func (o *topOptions) run(ctx context.Context) error {
	frame, err := o.look()
	if err != nil {
		return err
	}
	if !o.watch {
		text, err := frame(ctx)
		if err != nil {
			return err
		}
		_, err = o.Out.Write(text)
		return err
	}
	screen := newScreen(o.Out, o.output != "json")
	defer screen.close()
	err = wait.PollUntilContextCancel(ctx, watchInterval, true, func(ctx context.Context) (bool, error) {
		text, err := frame(ctx)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			// The API server may be back at the next look.
			fmt.Fprintln(o.ErrOut, "error:", err)
			return false, nil
		}
		return false, screen.show(text)
	})
	if errors.Is(err, context.Canceled) {
		return nil // that is how watching ends
	}
	return err
}

// look returns what asks the cluster, or the file, and draws the answer.
func (o *topOptions) look() (func(context.Context) ([]byte, error), error) {
	source, err := o.source.open()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]byte, error) {
		if o.grouping != nil {
			u, err := source.Usage(ctx, *o.grouping, o.source.name, o.nodes...)
			if err != nil {
				return nil, err
			}
			return o.drawUsage(u)
		}
		m, err := source.Map(ctx, o.nodes...)
		if err != nil {
			return nil, err
		}
		return o.drawMap(m)
	}, nil
}

func (o *topOptions) drawMap(m *gpumap.Map) ([]byte, error) {
	if o.output == "json" {
		return indented(m)
	}
	var text bytes.Buffer
	style := terminal.Style(o.Out, o.noColor)
	style.Wide = o.output == "wide"
	err := m.Render(&text, style)
	return text.Bytes(), err
}

func (o *topOptions) drawUsage(u *usage.Usage) ([]byte, error) {
	if o.output == "json" {
		return indented(u)
	}
	var text bytes.Buffer
	if o.output == "csv" {
		printNotes(o.ErrOut, u.Notes)
		err := u.CSV(&text)
		return text.Bytes(), err
	}
	err := u.Render(&text)
	return text.Bytes(), err
}

func indented(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}
