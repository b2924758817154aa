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
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

const topExample = `  # All nodes with GPUs
  kubectl berth top

  # Two nodes, again and again
  kubectl berth top gpu-a gpu-b --watch

  # The most free memory on one GPU, for scripts
  kubectl berth top -o json | jq '[.nodes[].devices[].free] | max'`

// watchInterval is how often --watch looks. A look lists all pods, which is no more than kubectl get pods -A does.
const watchInterval = 2 * time.Second

// topOptions are the flags of kubectl berth top.
type topOptions struct {
	genericiooptions.IOStreams
	config func() (*rest.Config, error)

	nodes   []string
	output  string
	noColor bool
	watch   bool
}

func newTopCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &topOptions{IOStreams: streams, config: flags.ToRESTConfig}
	command := &cobra.Command{
		Use:   "top [NODE...]",
		Short: "Show the memory of every GPU: booked, measured and free, by which pods",
		Long: "Show the memory of every GPU: booked, measured and free, by which pods; then the pods that wait, and why.\n\n" +
			"It is the scheduler's own view of the cluster, made on this machine from the API objects.",
		Example: topExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.nodes = args
			return o.run(cmd.Context())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return o.complete(cmd.Context(), args)
		},
	}
	command.Flags().StringVarP(&o.output, "output", "o", "", "Output format: json, or wide for the identity of each GPU")
	command.Flags().BoolVar(&o.noColor, "no-color", false, "Do not use colours; also by setting NO_COLOR, and when the output is no terminal")
	command.Flags().BoolVarP(&o.watch, "watch", "w", false, "Look again every "+watchInterval.String()+" until interrupted")
	return command
}

func (o *topOptions) run(ctx context.Context) error {
	if !slices.Contains([]string{"", "wide", "json"}, o.output) {
		return fmt.Errorf("--output=%s is not known: use json or wide", o.output)
	}
	config, err := o.config()
	if err != nil {
		return err
	}
	client, err := cluster.New(config)
	if err != nil {
		return err
	}
	if !o.watch {
		frame, err := o.frame(ctx, client)
		if err != nil {
			return err
		}
		_, err = o.Out.Write(frame)
		return err
	}
	screen := newScreen(o.Out, o.output != "json")
	defer screen.close()
	err = wait.PollUntilContextCancel(ctx, watchInterval, true, func(ctx context.Context) (bool, error) {
		frame, err := o.frame(ctx, client)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			// The API server may be back at the next look.
			fmt.Fprintln(o.ErrOut, "error:", err)
			return false, nil
		}
		return false, screen.show(frame)
	})
	if errors.Is(err, context.Canceled) {
		return nil // that is how watching ends
	}
	return err
}

// frame reads the cluster and draws it.
func (o *topOptions) frame(ctx context.Context, client *cluster.Client) ([]byte, error) {
	settings, err := client.Settings(ctx)
	if err != nil {
		return nil, err
	}
	objects, err := client.Read(ctx)
	if err != nil {
		return nil, err
	}
	m, err := gpumap.Build(objects, settings, o.nodes...)
	if err != nil {
		return nil, err
	}
	if o.output == "json" {
		text, err := json.MarshalIndent(m, "", "  ")
		return append(text, '\n'), err
	}
	var text bytes.Buffer
	style := TerminalStyle(o.Out, o.noColor)
	style.Wide = o.output == "wide"
	err = m.Render(&text, style)
	return text.Bytes(), err
}

// complete returns the names of nodes for the shell.
func (o *topOptions) complete(ctx context.Context, given []string) ([]string, cobra.ShellCompDirective) {
	config, err := o.config()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	client, err := cluster.New(config)
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
