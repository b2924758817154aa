// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/simulator"
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
	addNodes  []string
	cordon    []string
	drain     []string
	without   []string
	priority  string
	strategy  string
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
	f.StringArrayVar(&o.addNodes, "add-node", nil, "Add empty nodes of a shape, as h100-80x8=2: two nodes of 8 GPUs of model H100-80")
	f.StringArrayVar(&o.cordon, "cordon", nil, "Keep new pods off a NODE, or off one GPU of it: NODE/UUID or NODE/INDEX")
	f.StringArrayVar(&o.drain, "drain", nil, "Cordon a NODE and place its pods anew")
	f.StringArrayVar(&o.without, "without", nil, "Take a pod away: pod/NAMESPACE/NAME")
	f.StringVar(&o.priority, "priority", "", "Priority of the new pods instead of their own: a number, or the name of a priority class")
	f.StringVar(&o.strategy, "strategy", "", "Strategy of the scheduler instead of its own: MostAllocated, LeastAllocated or Fragmentation")
	f.StringVarP(&o.output, "output", "o", "", "Output format: json")
	answersByStatus(command)
	return command
}

func (o *whatIfOptions) run(cmd *cobra.Command) error {
	if !slices.Contains([]string{"", "json"}, o.output) {
		return fmt.Errorf("--output=%s is not known: use json", o.output)
	}
	question, err := o.question()
	if err != nil {
		return err
	}
	notes, err := o.readManifests(cmd.Context(), question)
	if err != nil {
		return err
	}
	answer, err := o.ask(cmd.Context(), question)
	if err != nil {
		return err
	}
	answer.Notes = append(notes, answer.Notes...)
	if o.output == "json" {
		text, err := json.MarshalIndent(answer, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(o.Out, string(text))
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

func (o *whatIfOptions) ask(ctx context.Context, q *whatif.Question) (*whatif.Answer, error) {
	snapshot, err := o.source.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return whatif.Ask(ctx, snapshot, q)
}

const (
	dryRunClient = "client"
	dryRunServer = "server"
)

// readManifests reads the new pods, and says what of the manifests has none.
func (o *whatIfOptions) readManifests(ctx context.Context, q *whatif.Question) (notes []string, err error) {
	switch {
	case o.dryRun != dryRunClient && o.dryRun != dryRunServer:
		return nil, fmt.Errorf("--dry-run=%s is not known: use %s or %s", o.dryRun, dryRunClient, dryRunServer)
	case o.dryRun == dryRunServer && o.source.file != "":
		return nil, errors.New("--dry-run=server asks a cluster, and --from is a file: leave one of them out")
	case !o.manifests.Given() && o.priority != "":
		return nil, errors.New("--priority is that of new pods: name their manifests by -f")
	case !o.manifests.Given() && o.dryRun == dryRunServer:
		return nil, errors.New("--dry-run=server is about manifests: name them by -f")
	case !o.manifests.Given():
		return nil, nil
	}
	namespace, err := o.source.namespace()
	if err != nil {
		return nil, err
	}
	if o.dryRun == dryRunServer {
		admission, err := o.source.admission()
		if err != nil {
			return nil, err
		}
		q.Admit = admission.Pod
		o.manifests.Admit = func(object *unstructured.Unstructured, namespace string) (*unstructured.Unstructured, error) {
			return admission.Object(ctx, object, namespace)
		}
	}
	read, err := o.manifests.Read(namespace)
	if err != nil {
		return nil, err
	}
	q.Pods, q.Beside = read.Pods, read.Beside
	slices.Sort(read.Left)
	if left := slices.Compact(read.Left); len(left) > 0 {
		notes = append(notes, "Of the manifests, objects of these kinds are left out: "+strings.Join(left, ", "))
	}
	return notes, nil
}

// question reads the flags.
func (o *whatIfOptions) question() (*whatif.Question, error) {
	q := &whatif.Question{Priority: o.priority, Strategy: o.strategy, Drain: o.drain}
	for _, text := range o.addNodes {
		shape, count, many := strings.Cut(text, "=")
		n := 1
		if many {
			var err error
			if n, err = strconv.Atoi(count); err != nil || n < 1 {
				return nil, fmt.Errorf("--add-node=%s: %q is not a number of nodes: write it as h100-80x8=2", text, count)
			}
		}
		parsed, err := simulator.ParseShape(shape)
		if err != nil {
			return nil, fmt.Errorf("--add-node=%s: %w", text, err)
		}
		q.AddNodes = append(q.AddNodes, whatif.NewNodes{Shape: parsed, Count: n})
	}
	for _, text := range o.cordon {
		if node, gpu, ok := strings.Cut(text, "/"); ok {
			q.CordonGPUs = append(q.CordonGPUs, whatif.GPU{Node: node, GPU: gpu})
		} else {
			q.Cordon = append(q.Cordon, node)
		}
	}
	for _, text := range o.without {
		parts := strings.Split(text, "/")
		if len(parts) != 3 || parts[0] != "pod" || parts[1] == "" || parts[2] == "" {
			return nil, fmt.Errorf("--without=%s: write it as pod/NAMESPACE/NAME", text)
		}
		q.Without = append(q.Without, whatif.Name{Namespace: parts[1], Name: parts[2]})
	}
	strategies := []alloc.Strategy{"", alloc.MostAllocated, alloc.LeastAllocated, alloc.Fragmentation}
	if !slices.Contains(strategies, alloc.Strategy(o.strategy)) {
		return nil, fmt.Errorf("--strategy=%s is not known: use one of %s, %s, %s", o.strategy, strategies[1], strategies[2], strategies[3])
	}
	return q, nil
}
