// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/cli/replay"
	"github.com/berth-dev/berth/pkg/cli/terminal"
	trace "github.com/berth-dev/berth/pkg/replay"
)

const replayLong = `Replay a trace of a GPU cluster: say which part of its GPUs strategies allocate, and how much of the rest is in pieces.

Pods arrive one after the other in an order that comes of the seed, until they ask for more than there is. Each is tried once;
nobody leaves, waits or is evicted, unless --times has them come and go at their times. The arrivals of a seed are the same for
all strategies. Berth's own strategies place pods by the scheduler's own code. FGD, BestFit and Random are models of strategies
to compare with. Behind the name of one of Berth's own, +defaults lets kube-scheduler's scores decide between nodes that are
equal by Berth's, as in the profile that is shipped.

The lists are CSV as in Alibaba's traces (openb). The first line names the columns, in any order; further columns are ignored:
  nodes  sn, cpu_milli, memory_mib, gpu, model
  pods   name, cpu_milli, memory_mib, num_gpu, gpu_milli; gpu_spec limits the model (V100M16|V100M32),
         creation_time and deletion_time are in seconds
A GPU has 1000 milli, whatever its memory; to Berth each milli is 64Mi.`

const replayExample = `  # Berth's default strategy beside FGD (USENIX ATC 2023), on the same arrivals
  kubectl berth replay --nodes openb_node_list_gpu_node.csv --pods openb_pod_list_default.csv --strategy FGD,MostAllocated

  # As the scheduler is shipped, drawn
  kubectl berth replay --nodes nodes.csv --pods pods.csv --strategy MostAllocated+defaults --svg replay.svg

  # In a script
  kubectl berth replay --nodes nodes.csv --pods pods.csv --seeds 3 -o json | jq '.strategies[] | {strategy, allocated}'`

type replayOptions struct {
	genericiooptions.IOStreams
	nodes, pods string
	strategies  []string
	seeds       int
	seedsGiven  bool
	arrive      string
	arriveGiven bool
	shuffle     bool
	parallel    int
	times       bool
	svg         string
	output      string
}

func newReplayCommand(streams genericiooptions.IOStreams) *cobra.Command {
	o := &replayOptions{IOStreams: streams}
	command := &cobra.Command{
		Use:     "replay --nodes CSV --pods CSV",
		Short:   "Replay a trace of a cluster, and say how well strategies pack it",
		Long:    replayLong,
		Example: replayExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.seedsGiven, o.arriveGiven = cmd.Flags().Changed("seeds"), cmd.Flags().Changed("arrive")
			return o.run(cmd.Context())
		},
	}
	f := command.Flags()
	f.StringVar(&o.nodes, "nodes", "", "File with the list of nodes")
	f.StringVar(&o.pods, "pods", "", "File with the list of pods")
	f.StringSliceVar(&o.strategies, "strategy", []string{"FGD", replay.Strategies()[len(trace.References)]}, "Strategies to replay: some of "+strings.Join(replay.Strategies(), ", "))
	f.IntVar(&o.seeds, "seeds", 10, "How many orders of arrival are tried, by the seeds from 1")
	f.StringVar(&o.arrive, "arrive", "130%", "Which part of all GPUs the pods ask for that arrive")
	f.BoolVar(&o.shuffle, "shuffle-nodes", false, "Have the nodes in an order that comes of the seed, instead of that of the list")
	f.IntVar(&o.parallel, "parallel", 0, "How many runs go on at once; 0 = as many as there are processors")
	f.BoolVar(&o.times, "times", false, "Create and delete the pods at their times, each once, and say how long they wait; one seed unless --seeds is given")
	f.StringVar(&o.svg, "svg", "", "File to draw the curves into")
	f.StringVarP(&o.output, "output", "o", "", "Output format: json")
	return command
}

func (o *replayOptions) run(ctx context.Context) error {
	quiet()
	question, err := o.question()
	if err != nil {
		return err
	}
	progress := &replay.Progress{}
	stop := o.report(progress)
	answer, err := ask(ctx, question, o.times, progress)
	stop()
	if err != nil {
		return err
	}
	if o.svg != "" {
		var b bytes.Buffer
		if err := answer.(*replay.Answer).WriteSVG(&b); err != nil {
			return err
		}
		if err := os.WriteFile(o.svg, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return printJSON(o.Out, answer)
	}
	return answer.Render(o.Out)
}

// replayAnswer is of either kind.
type replayAnswer interface{ Render(io.Writer) error }

func ask(ctx context.Context, q *replay.Question, times bool, progress *replay.Progress) (replayAnswer, error) {
	if times {
		return replay.AskTimes(ctx, q, progress)
	}
	return replay.Ask(ctx, q, progress)
}

func (o *replayOptions) question() (*replay.Question, error) {
	switch {
	case !slices.Contains([]string{"", "json"}, o.output):
		return nil, fmt.Errorf("--output=%s is not known: use json", o.output)
	case o.nodes == "" || o.pods == "":
		return nil, errors.New("--nodes and --pods are needed: files with the lists of a trace, see --help")
	case o.seeds < 1:
		return nil, fmt.Errorf("--seeds=%d is too few: use at least 1", o.seeds)
	case o.times && o.svg != "":
		return nil, errors.New("--svg draws what is allocated over arrival, and --times has no such curve: leave one of them out")
	case o.times && o.arriveGiven:
		return nil, errors.New("--times has each pod arrive once, whatever they ask for: leave --arrive out")
	case o.parallel < 0:
		return nil, fmt.Errorf("--parallel=%d is too few: use 1 or more, or 0 for as many as there are processors", o.parallel)
	case len(o.strategies) == 0:
		return nil, errors.New("--strategy names none: use some of " + strings.Join(replay.Strategies(), ", "))
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(o.arrive, "%"))
	if err != nil || percent < 1 || percent > 1000 {
		return nil, fmt.Errorf("--arrive=%s is no part of the GPUs from 1%% to 1000%%: write it as 130%%", o.arrive)
	}
	if o.parallel == 0 {
		o.parallel = runtime.GOMAXPROCS(0)
	}
	if o.times && !o.seedsGiven {
		o.seeds = 1
	}
	t := &trace.Trace{}
	if t.Nodes, err = readFile(o.nodes, trace.ReadNodes); err != nil {
		return nil, fmt.Errorf("--nodes: %w", err)
	}
	t.Pods, err = readFile(o.pods, func(file string, r io.Reader) (pods []trace.Pod, err error) {
		pods, t.HasTimes, err = trace.ReadPods(file, r)
		return pods, err
	})
	if err != nil {
		return nil, fmt.Errorf("--pods: %w", err)
	}
	return &replay.Question{
		Trace: t, Strategies: o.strategies, Seeds: o.seeds, Percent: percent, ShuffleNodes: o.shuffle, Parallel: o.parallel,
	}, nil
}

func readFile[T any](name string, read func(string, io.Reader) (T, error)) (T, error) {
	file, err := os.Open(name)
	if err != nil {
		var none T
		return none, err
	}
	defer file.Close()
	return read(name, file)
}

const (
	// reportEvery is how often a replay that takes long tells how far it is.
	reportEvery = 2 * time.Second
	// linesEvery is how many of these times make one line where lines stay, as in a log.
	linesEvery = 10
)

// report tells on the terminal how far a replay is, until it is stopped.
func (o *replayOptions) report(p *replay.Progress) (stop func()) {
	_, inPlace := terminal.Of(o.ErrOut)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(reportEvery)
		defer ticker.Stop()
		for ticks := 0; ; ticks++ {
			select {
			case <-ticker.C:
			case <-done:
				if ticks > 0 && inPlace {
					fmt.Fprint(o.ErrOut, "\r\x1b[K")
				}
				return
			}
			if !inPlace && ticks%linesEvery != 0 {
				continue
			}
			line := fmt.Sprintf("%d of %d runs are done, %d pods have arrived", p.Runs.Load(), p.AllRuns.Load(), p.Pods.Load())
			if inPlace {
				fmt.Fprint(o.ErrOut, "\r\x1b[K"+line)
			} else {
				fmt.Fprintln(o.ErrOut, line)
			}
		}
	}()
	return func() { close(done); <-stopped }
}
