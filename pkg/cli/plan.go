// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/plan"
	"github.com/berth-dev/berth/pkg/cli/terminal"
	"github.com/berth-dev/berth/pkg/cli/whatif"
)

const planLong = `Say how many nodes of which shape the pods of manifests need, before there is a cluster.

Manifests are those of kubectl (Deployments and so on), or a short list of models:

  models:
  - {name: chat, model: hf://Qwen/Qwen2.5-7B-Instruct, runtime: vllm, contextLength: 8192, parallel: 16, replicas: 4}
  - {name: code, model: ./qwen2.5-coder-32b/config.json, gpuCount: "2,4", cpu: 8, memory: 64Gi}

A model is a source as pods name it, or a file or folder: a GGUF file, or a config.json with or without weights. --model gives a
file for a source, so that nothing is asked for over the network.

Of several shapes, the numbers of nodes with the least price are the best; without prices those of fewest nodes, and of least GPU
memory between equals. The scheduler's own code places all pods, one after the other in the order of the manifests, on nodes
that are simulated: the answer is the best numbers of nodes with which it places all. What is proven not to be enough, however
pods are placed, is said beside it.

The exit status is 0 if there is an answer, 1 if no number of nodes is enough, and above 1 if something went wrong.`

const planExample = `  # How many nodes of 8 H100 for these models?
  kubectl berth plan -f models.yaml --node-shape h100-80x8

  # What is the cheapest, with what nodes have beside GPUs, and prices?
  kubectl berth plan -f models.yaml --node-shape h100-80x8:cpu=208:memory=2Ti@98.32,l40sx4:cpu=96:memory=768Gi@15.22

  # With room for all pods when a node is lost, and a tenth of the memory free
  kubectl berth plan -f models.yaml --node-shape h100-80x8 --survive-nodes 1 --spare 10%

  # Offline, for manifests that name a model of a hub
  kubectl berth plan -f deployment.yaml --node-shape l40sx4 --model hf://Qwen/Qwen2.5-7B-Instruct=qwen/config.json`

// planOptions are the flags of kubectl berth plan.
type planOptions struct {
	genericiooptions.IOStreams
	restConfig func() (*rest.Config, error)
	namespace  string

	manifests whatif.Manifests
	shapes    []string
	models    []string
	labels    string
	survive   int
	spare     string
	noColor   bool
	output    string
}

func newPlanCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &planOptions{IOStreams: streams, restConfig: flags.ToRESTConfig}
	o.manifests.Stdin = streams.In
	command := &cobra.Command{
		Use:     "plan -f FILE --node-shape SHAPE",
		Short:   "Say how many nodes of which shape the pods of manifests need",
		Long:    planLong,
		Example: planExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := command.Flags()
	files := genericclioptions.FileNameFlags{
		Usage:     "Manifests of pods, or of what makes pods, or lists of models (files, folders, URLs; - is the standard input)",
		Filenames: &o.manifests.Filenames, Kustomize: &o.manifests.Kustomize, Recursive: &o.manifests.Recursive,
	}
	files.AddFlags(f)
	f.StringVarP(&o.namespace, "namespace", "n", "default", "Namespace of what names none")
	f.StringArrayVar(&o.shapes, "node-shape", nil, "Kinds of nodes that there can be: h100-80x8,l40sx4; with what a node has beside GPUs, and its price, h100-80x8:cpu=208:memory=2Ti@98.32")
	f.StringArrayVar(&o.models, "model", nil, "File or folder of a model that pods name by its source: SOURCE=PATH")
	f.StringVar(&o.labels, "node-labels", "", "Labels of all nodes, for pods that select them: KEY=VALUE,KEY=VALUE")
	f.IntVar(&o.survive, "survive-nodes", 0, "How many nodes can be lost, whichever, with room for their pods on the others")
	f.StringVar(&o.spare, "spare", "", "How much of the GPU memory of each shape is to stay free on GPUs that one more of these pods could go on: 10%")
	f.BoolVar(&o.noColor, "no-color", false, "Do not use colours; also by setting NO_COLOR, and when the output is no terminal")
	f.StringVarP(&o.output, "output", "o", "", "Output format: json")
	answersByStatus(command)
	return command
}

func (o *planOptions) run(cmd *cobra.Command) error {
	quiet()
	question, err := o.question(cmd.Context())
	if err != nil {
		return err
	}
	answer, err := plan.Ask(cmd.Context(), question)
	if err != nil {
		return err
	}
	if o.output == "json" {
		if err := printJSON(o.Out, answer); err != nil {
			return err
		}
	} else {
		printNotes(o.ErrOut, answer.Notes)
		if err := answer.Render(o.Out, terminal.Style(o.Out, o.noColor)); err != nil {
			return err
		}
	}
	if !answer.Enough {
		return no(cmd, "no number of nodes is enough")
	}
	return nil
}

// question reads the flags and the files.
func (o *planOptions) question(ctx context.Context) (*plan.Question, error) {
	q := &plan.Question{Survive: o.survive, Say: o.say}
	var err error
	switch {
	case !slices.Contains([]string{"", "json"}, o.output):
		return nil, fmt.Errorf("--output=%s is not known: use json", o.output)
	case !o.manifests.Given():
		return nil, errors.New("name manifests, or a list of models, by -f")
	case o.survive < 0 || o.survive > 3:
		return nil, fmt.Errorf("--survive-nodes=%d: use a number from 0 to 3", o.survive)
	}
	if q.Shapes, err = plan.ParseShapes(o.shapes); err != nil {
		return nil, fmt.Errorf("--node-shape: %w", err)
	}
	if q.Spare, err = parseSpare(o.spare); err != nil {
		return nil, err
	}
	if q.Labels, err = labels.ConvertSelectorToLabelsMap(o.labels); err != nil {
		return nil, fmt.Errorf("--node-labels=%s: %w: write KEY=VALUE,KEY=VALUE", o.labels, err)
	}
	read, err := o.manifests.Read(o.namespace)
	if err != nil {
		return nil, err
	}
	q.Pods, q.Beside = read.Pods, read.Beside
	q.Profiles, err = o.profiles(ctx, read.Pods)
	return q, err
}

// say tells on a terminal what is under way.
func (o *planOptions) say(text string) {
	if _, isTerminal := terminal.Of(o.ErrOut); isTerminal {
		fmt.Fprintln(o.ErrOut, text)
	}
}

// parseSpare reads 10%, or 0.1.
func parseSpare(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	spare, err := strconv.ParseFloat(number, 64)
	if percent {
		spare /= 100
	}
	if err != nil || !(spare >= 0 && spare < 0.9) || !percent && spare >= 1 {
		return 0, fmt.Errorf("--spare=%s: write it as 10%%, less than 90%%", text)
	}
	return spare, nil
}

// profiles reads the models that pods name and whose memory is to be known, each once.
func (o *planOptions) profiles(ctx context.Context, pods []*corev1.Pod) (profiles []*berthv1alpha1.ModelProfile, err error) {
	files := map[string]string{}
	for _, text := range o.models {
		source, file, ok := strings.Cut(text, "=")
		if !ok || source == "" || file == "" {
			return nil, fmt.Errorf("--model=%s: write it as SOURCE=PATH, such as hf://Qwen/Qwen2.5-7B-Instruct=qwen/config.json", text)
		}
		files[source] = file
	}
	used := map[string]bool{}
	for _, pod := range pods {
		request, err := berthv1alpha1.ParsePodRequest(pod)
		if err != nil {
			return nil, fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		if request == nil || request.Model == "" || used[request.Model] {
			continue
		}
		used[request.Model] = true
		if request.TotalMemory != nil && files[request.Model] == "" {
			continue // what the pod says it needs is booked
		}
		profile, err := o.profile(ctx, request.Model, files[request.Model])
		if err != nil {
			return nil, err
		}
		profiles = append(profiles, profile)
	}
	for source := range files {
		if !used[source] {
			return nil, fmt.Errorf("--model=%s=%s: no pod names this model", source, files[source])
		}
	}
	return profiles, nil
}

// profile reads a model, and makes the ModelProfile of it that the controller would.
func (o *planOptions) profile(ctx context.Context, source, file string) (*berthv1alpha1.ModelProfile, error) {
	reader := modelReader{IOStreams: o.IOStreams, restConfig: o.restConfig, model: cmp.Or(file, source)}
	model, err := reader.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w; --model %s=PATH gives a local file", source, err, source)
	}
	profile := &berthv1alpha1.ModelProfile{}
	profile.Name = berthv1alpha1.ModelProfileName(source)
	profile.Spec.Source = source
	profile.Status.Model = model
	profile.Status.Conditions = []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Read"}}
	return profile, nil
}
