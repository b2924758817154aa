// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/cli/whatif"
)

const whatIfLong = `Say where pods would go, whom they would evict, and what would stay pending and why, without changing anything.

The scheduler's own code runs on this machine over the objects of the cluster, one pod after the other, with evictions, grace
periods and memory that comes back played out on a clock of its own. What admission adds to manifests is applied here: defaults,
priorities, RuntimeClasses and Berth's policies, but no webhooks; with --dry-run=server the cluster is asked instead, which stores
nothing. Loading a model takes no time here.

Asked about are the pods of manifests and of drained nodes; without any, the pods that wait now.

The exit status is 0 if all of them would be placed, 1 if not, and above 1 if something went wrong.`

const whatIfExample = `  # Where would this Deployment go?
  kubectl berth what-if -f deployment.yaml

  # As a kustomization has it, and as the cluster's webhooks and policies leave it
  kubectl berth what-if -k overlays/prod --dry-run=server

  # Can this node be drained?
  kubectl berth what-if --drain gpu-a

  # Would two more nodes be enough for what waits?
  kubectl berth what-if --add-node h100-80x8=2

  # In a script
  kubectl berth what-if -f pod.yaml -o json | jq -r '.pods[].node'`

// whatIfOptions are the flags of kubectl berth what-if.
type whatIfOptions struct {
	genericiooptions.IOStreams
	source source

	manifests whatif.Manifests
	changes   whatif.Changes
	dryRun    string
	output    string
}

func newWhatIfCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &whatIfOptions{IOStreams: streams, source: source{flags: flags}}
	o.manifests.Stdin = streams.In
	command := &cobra.Command{
		Use:     "what-if",
		Short:   "Say where pods would go, and whom they would evict, if something were different",
		Long:    whatIfLong,
		Example: whatIfExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := command.Flags()
	o.source.addFlags(f)
	files := genericclioptions.FileNameFlags{
		Usage:     "Manifests of new pods, or of what makes pods (files, folders, URLs; - is the standard input)",
		Filenames: &o.manifests.Filenames, Kustomize: &o.manifests.Kustomize, Recursive: &o.manifests.Recursive,
	}
	files.AddFlags(f)
	f.StringVar(&o.dryRun, "dry-run", dryRunClient, "Who says what admission makes of manifests: client (this program) or server (the cluster, which stores nothing)")
	f.StringArrayVar(&o.changes.AddNode, "add-node", nil, "Add empty nodes of a shape, as h100-80x8=2: two nodes of 8 GPUs of model H100-80")
	f.StringArrayVar(&o.changes.Cordon, "cordon", nil, "Keep new pods off a NODE, or off one GPU of it: NODE/UUID or NODE/INDEX")
	f.StringArrayVar(&o.changes.Drain, "drain", nil, "Cordon a NODE and place its pods anew")
	f.StringArrayVar(&o.changes.Without, "without", nil, "Take a pod away: pod/NAMESPACE/NAME")
	f.StringVar(&o.changes.Priority, "priority", "", "Priority of the new pods instead of their own: a number, or the name of a priority class")
	f.StringVar(&o.changes.Strategy, "strategy", "", "Strategy of the scheduler instead of its own: "+whatif.Strategies())
	f.StringVarP(&o.output, "output", "o", "", "Output format: json")
	answersByStatus(command)
	return command
}

func (o *whatIfOptions) run(cmd *cobra.Command) error {
	if !slices.Contains([]string{"", "json"}, o.output) {
		return fmt.Errorf("--output=%s is not known: use json", o.output)
	}
	question, err := o.changes.Question()
	if err != nil {
		return err
	}
	if err := o.readManifests(cmd.Context(), question); err != nil {
		return err
	}
	source, err := o.source.open()
	if err != nil {
		return err
	}
	answer, err := source.WhatIf(cmd.Context(), question)
	if err != nil {
		return err
	}
	if o.output == "json" {
		if err := printJSON(o.Out, answer); err != nil {
			return err
		}
	} else {
		printNotes(o.ErrOut, answer.Notes)
		if err := answer.Render(o.Out); err != nil {
			return err
		}
	}
	if !answer.AllPlaced() {
		return no(cmd, "not all pods would be placed")
	}
	return nil
}

const (
	dryRunClient = "client"
	dryRunServer = "server"
)

// readManifests reads the new pods.
func (o *whatIfOptions) readManifests(ctx context.Context, q *whatif.Question) error {
	switch {
	case o.dryRun != dryRunClient && o.dryRun != dryRunServer:
		return fmt.Errorf("--dry-run=%s is not known: use %s or %s", o.dryRun, dryRunClient, dryRunServer)
	case o.dryRun == dryRunServer && o.source.file != "":
		return errors.New("--dry-run=server asks a cluster, and --from is a file: leave one of them out")
	case !o.manifests.Given() && o.dryRun == dryRunServer:
		return errors.New("--dry-run=server is about manifests: name them by -f")
	case !o.manifests.Given():
		return nil
	}
	namespace, err := o.source.namespace()
	if err != nil {
		return err
	}
	if o.dryRun == dryRunServer {
		admission, err := o.source.admission()
		if err != nil {
			return err
		}
		q.Admit = admission.Pod
		o.manifests.Admit = func(object *unstructured.Unstructured, namespace string) (*unstructured.Unstructured, error) {
			return admission.Object(ctx, object, namespace)
		}
	}
	return o.manifests.AddTo(q, namespace)
}
