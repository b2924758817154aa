// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/cli/snapshotfile"
)

const snapshotLong = `Write what the scheduler reads of the cluster to a file, which the other commands take by --from.

Values of environment variables are not in it, but for those that say how an engine splits its model, nor are Secrets,
ConfigMaps, arguments that look like secrets, probes, and the templates of workloads. Names of pods, nodes and namespaces, labels
and images are.`

const snapshotExample = `  # For a ticket
  kubectl berth snapshot -o cluster.json.gz

  # What would a drain have done, when the snapshot was taken?
  kubectl berth what-if --from cluster.json.gz --drain gpu-a`

// snapshotOptions are the flags of kubectl berth snapshot.
type snapshotOptions struct {
	genericiooptions.IOStreams
	source source
	output string
}

func newSnapshotCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &snapshotOptions{IOStreams: streams, source: source{flags: flags}}
	command := &cobra.Command{
		Use:     "snapshot -o FILE",
		Short:   "Write what the scheduler reads of the cluster to a file",
		Long:    snapshotLong,
		Example: snapshotExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	command.Flags().StringVarP(&o.output, "output", "o", "", "File to write: in YAML if it ends in .yaml, else in JSON; compressed if it ends in .gz; - is the standard output")
	return command
}

func (o *snapshotOptions) run(ctx context.Context) error {
	if o.output == "" {
		return errors.New("name the file to write: kubectl berth snapshot -o cluster.json.gz")
	}
	s, err := o.source.snapshot(ctx)
	if err != nil {
		return err
	}
	printNotes(o.ErrOut, s.Notes)
	if o.output == "-" {
		return snapshotfile.Encode(o.Out, s, true)
	}
	if err := snapshotfile.Write(o.output, s); err != nil {
		return err
	}
	fmt.Fprintf(o.ErrOut, "%s has %d objects\n", o.output, len(s.Objects))
	return nil
}
