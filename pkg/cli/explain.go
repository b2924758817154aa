// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/pkg/cli/explain"
)

const explainLong = `Say why a pod waits: what it lacks on which GPU of which node, who holds that, what other plugins of the scheduler say, who would be
evicted for it and when it would be placed. Of a pod that is on a node it says what the scheduler told when it placed the pod, and
where it would go now. What was recorded of the pod follows: on itself, by Events, and, with --logs, in the scheduler's log; that
is all there is to say of a pod that is gone.

(kubectl explain is something else: it describes the fields of an API.)

The scheduler's own code runs on this machine over the objects of the cluster as they are now. It is not the scheduler's memory:
what it knows of claims that it has not written down, or of its next try, is not here.`

const explainExample = `  # Why does this pod wait?
  kubectl berth explain pod/chat-7d9f8b6c5-x2v4q

  # Each GPU of each node
  kubectl berth explain pod/chat-7d9f8b6c5-x2v4q -o wide

  # Who evicted this pod, and for whom?
  kubectl berth explain pod/chat-7d9f8b6c5-x2v4q --logs`

// explainOptions are the flags of kubectl berth explain.
type explainOptions struct {
	genericiooptions.IOStreams
	source source
	output string
	logs   bool
}

func newExplainCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &explainOptions{IOStreams: streams, source: source{flags: flags}}
	command := &cobra.Command{
		Use:     "explain pod/NAME",
		Short:   "Say why a pod waits, or where it would go now",
		Long:    explainLong,
		Example: explainExample,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	o.source.addFlags(command.Flags())
	command.Flags().BoolVar(&o.logs, "logs", false, "Quote what the logs of the scheduler's pods have of the pod; needs get on pods/log in berth-system")
	command.Flags().StringVarP(&o.output, "output", "o", "", "Output format: wide for each GPU, json or yaml")
	return command
}

func (o *explainOptions) run(ctx context.Context, arg string) error {
	if !slices.Contains([]string{"", "wide", "json", "yaml"}, o.output) {
		return fmt.Errorf("--output=%s is not known: use wide, json or yaml", o.output)
	}
	kind, name, ok := strings.Cut(arg, "/")
	if !ok || name == "" || !slices.Contains([]string{"pod", "pods", "po"}, kind) {
		return fmt.Errorf("%q is no pod: write it as pod/NAME", arg)
	}
	source, err := o.source.open()
	if err != nil {
		return err
	}
	e, err := source.Explain(ctx, source.Namespace, name, o.logs)
	if err != nil {
		return err
	}
	return o.print(e)
}

func (o *explainOptions) print(e *explain.Explanation) error {
	if o.output == "json" || o.output == "yaml" {
		text, err := json.MarshalIndent(e, "", "  ")
		if err == nil && o.output == "yaml" {
			text, err = yaml.JSONToYAML(text)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(o.Out, strings.TrimSuffix(string(text), "\n"))
		return nil
	}
	printNotes(o.ErrOut, e.Notes)
	return e.Render(o.Out, o.output == "wide")
}
