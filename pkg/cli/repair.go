// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/berth-dev/berth/pkg/cli/repair"
)

// repairOptions are the flags of kubectl berth cordon, uncordon and drain.
type repairOptions struct {
	genericiooptions.IOStreams
	flags *genericclioptions.ConfigFlags
	gpus  []string
	// drain are those of drain alone.
	drain repair.Drain
}

func newCordonCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &repairOptions{IOStreams: streams, flags: flags}
	return o.command("cordon", "Keep new pods off single GPUs of a node",
		`Keep new pods off single GPUs of a node; pods that hold them stay, and their owners are told by an Event.

It is the Node's annotation berth.dev/cordoned-gpus, which names GPUs by their UUIDs. The whole node: kubectl cordon.`, `  # GPU 3 of a node is to be replaced
  kubectl berth cordon gpu-a --gpu 3

  # Two GPUs, one by its UUID
  kubectl berth cordon gpu-a --gpu 3,GPU-4b1d07f8-3f5a-6a57-9b3c-2f1f0c0a7e11`,
		func(ctx context.Context, c *repair.Client, node string, dry cmdutil.DryRunStrategy) error {
			_, err := o.setCordoned(ctx, c, node, true, dry)
			return err
		})
}

func newUncordonCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &repairOptions{IOStreams: streams, flags: flags}
	return o.command("uncordon", "Let new pods on single GPUs of a node again",
		`Let new pods on single GPUs of a node again. Pods that wait for one are tried at once.

A GPU that the node does not report any more is named by its UUID.`, `  kubectl berth uncordon gpu-a --gpu 3`,
		func(ctx context.Context, c *repair.Client, node string, dry cmdutil.DryRunStrategy) error {
			_, err := o.setCordoned(ctx, c, node, false, dry)
			return err
		})
}

func newDrainCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &repairOptions{IOStreams: streams, flags: flags}
	command := o.command("drain", "Cordon single GPUs of a node, and evict the pods that hold them",
		`Cordon single GPUs of a node, and evict the pods that hold them: those that Berth gave them to, and those that the kubelet did.
Pods on other GPUs of the node stay.

Pods are evicted through the Eviction API, so PodDisruptionBudgets hold; what one refuses is tried again every 5 seconds. It
returns when the pods are gone. The whole node: kubectl drain.`, `  # Whom would it evict?
  kubectl berth drain gpu-a --gpu 3 --dry-run=server

  # Give up after ten minutes
  kubectl berth drain gpu-a --gpu 3 --timeout 10m`, o.runDrain)
	f := command.Flags()
	f.IntVar(&o.drain.GracePeriodSeconds, "grace-period", -1, "Seconds that pods are given to end; negative = what each says itself")
	f.DurationVar(&o.drain.Timeout, "timeout", 0, "How long to try before giving up; 0 = for ever")
	f.BoolVar(&o.drain.Force, "force", false, "Evict pods too that no controller makes again")
	f.BoolVar(&o.drain.DeleteEmptyDirData, "delete-emptydir-data", false, "Evict pods too that have data in an emptyDir on the node's disk, which is lost")
	return command
}

// command makes one of the three.
func (o *repairOptions) command(name, short, long, example string, run func(context.Context, *repair.Client, string, cmdutil.DryRunStrategy) error) *cobra.Command {
	command := &cobra.Command{
		Use: name + " NODE --gpu UUID|INDEX", Short: short, Long: long, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.gpus) == 0 {
				return fmt.Errorf("name the GPUs by --gpu UUID|INDEX (kubectl berth top %s -o wide shows them); for all of the node there is kubectl %s", args[0], name)
			}
			dry, err := cmdutil.GetDryRunStrategy(cmd)
			if err != nil {
				return err
			}
			client, err := o.client()
			if err != nil {
				return err
			}
			return run(cmd.Context(), client, args[0], dry)
		},
	}
	command.Flags().StringSliceVar(&o.gpus, "gpu", nil, "The GPUs: UUIDs, or indexes as the node reports them now, with commas between them")
	cmdutil.AddDryRunFlag(command)
	o.completeOn(command, name == "uncordon")
	return command
}

func (o *repairOptions) client() (*repair.Client, error) {
	config, err := o.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return repair.New(config)
}

// setCordoned keeps new pods off the GPUs, or no longer, and says so.
func (o *repairOptions) setCordoned(ctx context.Context, c *repair.Client, node string, cordoned bool, dry cmdutil.DryRunStrategy) ([]repair.GPU, error) {
	gpus, err := c.Find(ctx, node, o.gpus, !cordoned)
	if err != nil {
		return nil, err
	}
	var changed []repair.GPU
	if dry == cmdutil.DryRunClient {
		n, err := c.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		changed, _ = repair.Plan(n, gpus, cordoned)
	} else if changed, err = c.SetCordoned(ctx, node, gpus, cordoned, dry == cmdutil.DryRunServer); err != nil {
		return nil, err
	}
	done := "uncordoned"
	if cordoned {
		done = "cordoned"
	}
	for _, g := range gpus {
		already := ""
		if !slices.Contains(changed, g) {
			already = "already "
		}
		fmt.Fprintf(o.Out, "node/%s %s %s%s%s\n", node, g, already, done, dryRuns[dry])
	}
	return gpus, nil
}

// dryRuns is what is said behind what was not done.
var dryRuns = map[cmdutil.DryRunStrategy]string{cmdutil.DryRunClient: " (dry run)", cmdutil.DryRunServer: " (server dry run)"}

func (o *repairOptions) runDrain(ctx context.Context, c *repair.Client, node string, dry cmdutil.DryRunStrategy) error {
	gpus, err := o.setCordoned(ctx, c, node, true, dry)
	if err != nil {
		return err
	}
	d := o.drain
	d.Client, d.Out, d.ErrOut, d.DryRun = c, o.Out, o.ErrOut, dry
	if err := d.Run(ctx, node, gpus); err != nil {
		return fmt.Errorf("%w\nthe GPUs stay cordoned: kubectl berth uncordon %s takes that back", err, node)
	}
	for _, g := range gpus {
		fmt.Fprintf(o.Out, "node/%s %s drained%s\n", node, g, dryRuns[dry])
	}
	return nil
}
