// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/cli/check"
	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/snapshotfile"
	"github.com/berth-dev/berth/pkg/cli/terminal"
)

const checkLong = `Say whether Berth is set up right: versions, CustomResourceDefinitions, admission policies, the rights of Berth's accounts, the
scheduler and its configuration, the controller, the agents and their reports, whose the GPUs of each node are and whether they can be
handed to containers, and pods that nobody serves. What is wrong comes with its cause and the line to run, or the page to read.

Nothing is written. With --probe, the API server is asked to refuse, by dry runs, what each policy must refuse: the requests that the
scheduler makes every few minutes, as the account berth-probe, which you must be allowed to impersonate.

What you may not read is said not to have been checked. The exit status is 0 if nothing failed, 1 if something did (with --strict: or
is to be warned of, or could not be checked), and above 1 if the cluster could not be asked.`

const checkExample = `  # Is it set up right?
  kubectl berth check

  # After an installation: wait until it is
  kubectl berth check --wait 5m

  # Do the policies refuse what they must?
  kubectl berth check --probe

  # In a script: what failed
  kubectl berth check -o json | jq -r '.groups[].checks[] | select(.status == "failed") | "\(.id): \(.message)"'`

// checkInterval is how often --wait looks.
const checkInterval = 2 * time.Second

// checkOptions are the flags of kubectl berth check.
type checkOptions struct {
	genericiooptions.IOStreams
	source source

	output  string
	noColor bool
	strict  bool
	probe   bool
	wait    time.Duration
}

func newCheckCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &checkOptions{IOStreams: streams, source: source{flags: flags}}
	command := &cobra.Command{
		Use:     "check",
		Short:   "Say whether Berth is set up right, and what to run where it is not",
		Long:    checkLong,
		Example: checkExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := command.Flags()
	f.StringVar(&o.source.file, "from", "", "Check a file of kubectl berth snapshot instead, as far as it tells")
	f.StringVarP(&o.output, "output", "o", "", "Output format: json")
	f.BoolVar(&o.noColor, "no-color", false, "Do not use colours; also by setting NO_COLOR, and when the output is no terminal")
	f.BoolVar(&o.strict, "strict", false, "Fail on warnings, and on what could not be checked")
	f.BoolVar(&o.probe, "probe", false, "Try, by dry runs, whether the admission policies refuse what they must")
	f.DurationVar(&o.wait, "wait", 0, "Look again until nothing fails, for at most so long")
	answersByStatus(command)
	return command
}

func (o *checkOptions) run(cmd *cobra.Command) error {
	switch {
	case !slices.Contains([]string{"", "json"}, o.output):
		return fmt.Errorf("--output=%s is not known: use json", o.output)
	case o.source.file != "" && o.probe:
		return errors.New("--probe is of no use with --from: a file refuses nothing")
	case o.source.file != "" && o.wait > 0:
		return errors.New("--wait is of no use with --from: a file does not change")
	}
	quiet()
	report, err := o.look(cmd.Context())
	if err != nil {
		return err
	}
	if o.output == "json" {
		if err := printJSON(o.Out, report); err != nil {
			return err
		}
	} else if err := report.Render(o.Out, terminal.Style(o.Out, o.noColor).Colour); err != nil {
		return err
	}
	if !report.Passes(o.strict) {
		return no(cmd, "not all checks pass")
	}
	return nil
}

// look makes the checks, again and again while it waits.
func (o *checkOptions) look(ctx context.Context) (*check.Report, error) {
	if o.source.file != "" {
		snapshot, err := snapshotfile.Read(o.source.file)
		if err != nil {
			return nil, err
		}
		facts, err := cluster.FactsOf(ctx, snapshot)
		if err != nil {
			return nil, err
		}
		return check.Judge(facts), nil
	}
	client, err := o.source.client()
	if err != nil {
		return nil, err
	}
	var report *check.Report
	deadline := time.Now().Add(o.wait)
	err = wait.PollUntilContextCancel(ctx, checkInterval, true, func(ctx context.Context) (bool, error) {
		facts, err := client.Facts(ctx, o.probe)
		over := time.Now().After(deadline)
		if err != nil {
			if over || ctx.Err() != nil {
				return false, err
			}
			return false, nil // it may answer at the next look
		}
		report = check.Judge(facts)
		return over || report.Passes(o.strict), nil
	})
	return report, err
}
