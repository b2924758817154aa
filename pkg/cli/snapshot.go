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
	"github.com/berth-dev/berth/pkg/simulator"
)

const snapshotLong = `Write what the scheduler reads of the cluster to a file, which the other commands take by --from.

What a scheduler does not read is not in it: Secrets, ConfigMaps, the templates of workloads, annotations that are not Berth's,
probes, values of environment variables but for those that say how an engine splits its model. Arguments are, but for those that
look like secrets, and so are images, sources of models, names and labels.

With --replace-names, pods, namespaces and what is in them have pseudonyms, as have the values of the labels of pods; with
--replace-names=pods,nodes nodes have too. The scheduler decides the same of such a file. A pseudonym is nowhere written down.`

const snapshotExample = `  # For a ticket
  kubectl berth snapshot -o cluster.json.gz

  # For the ticket of somebody else
  kubectl berth snapshot --replace-names=pods,nodes -o cluster.json.gz

  # What would a drain have done, when the snapshot was taken?
  kubectl berth what-if --from cluster.json.gz --drain gpu-a`

// snapshotOptions are the flags of kubectl berth snapshot.
type snapshotOptions struct {
	genericiooptions.IOStreams
	source source
	output string
	names  []string
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
	f := command.Flags()
	f.StringVarP(&o.source.name, "namespace", "n", "", "Namespace to read of what may not be read in all")
	f.StringSliceVar(&o.names, "replace-names", nil, "Replace names by pseudonyms: those of pods (with namespaces and what is in them) or of nodes")
	f.Lookup("replace-names").NoOptDefVal = "pods"
	f.StringVarP(&o.output, "output", "o", "", "File to write: in YAML if it ends in .yaml, else in JSON; compressed if it ends in .gz; - is the standard output")
	return command
}

func (o *snapshotOptions) run(ctx context.Context) error {
	if o.output == "" {
		return errors.New("name the file to write: kubectl berth snapshot -o cluster.json.gz")
	}
	var replace snapshotfile.Replace
	for _, name := range o.names {
		switch name {
		case "pods":
			replace.Pods = true
		case "nodes":
			replace.Nodes = true
		default:
			return fmt.Errorf("--replace-names=%s is not known: use pods, nodes, or pods,nodes", name)
		}
	}
	source, err := o.source.open()
	if err != nil {
		return err
	}
	s, err := source.Snapshot(ctx)
	if err != nil {
		return err
	}
	printNotes(o.ErrOut, s.Notes)
	if len(s.Missing) > 0 {
		printNotes(o.ErrOut, []string{(&simulator.ErrMissing{What: s.Missing}).Error()})
	}
	if o.output == "-" {
		return snapshotfile.Encode(o.Out, s, replace, true)
	}
	if err := snapshotfile.Write(o.output, s, replace); err != nil {
		return err
	}
	fmt.Fprintf(o.ErrOut, "%s has %d objects\n", o.output, len(s.Objects))
	return nil
}
