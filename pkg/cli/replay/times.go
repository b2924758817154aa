// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/replay"
)

// KindTimes is the Kind of the JSON form of a TimesAnswer.
const KindTimes = "ReplayTimes"

// TimesAnswer is what came of pods that were created and deleted at their times.
type TimesAnswer struct {
	metav1.TypeMeta `json:",inline"`
	Nodes           int               `json:"nodes"`
	GPUs            int               `json:"gpus"`
	ShuffledNodes   bool              `json:"shuffledNodes"`
	Runs            []*replay.Waiting `json:"runs"`
}

// AskTimes replays the times of a trace.
func AskTimes(ctx context.Context, q *Question, progress *Progress) (*TimesAnswer, error) {
	if !q.Trace.HasTimes {
		return nil, fmt.Errorf("not all pods have a creation_time and a deletion_time: leave --times out, or the other pods")
	}
	runs, err := each(ctx, q, progress, func(ctx context.Context, r *run) (*replay.Waiting, error) {
		var by replay.Timed
		if slices.Contains(replay.References, r.strategy) {
			by = replay.NewTimedReference(r.strategy, r.nodes, q.Trace, r.seed)
		} else {
			p, err := newProduction(ctx, r.strategy, r.nodes, r.templates)
			if err != nil {
				return nil, err
			}
			by = &timedProduction{p}
		}
		w, err := replay.Pass(ctx, q.Trace, by, r.step)
		if err == nil {
			w.Strategy, w.Seed = r.strategy, r.seed
		}
		return w, err
	})
	if err != nil {
		return nil, err
	}
	return &TimesAnswer{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: KindTimes}, Nodes: len(q.Trace.Nodes), GPUs: q.gpus(),
		ShuffledNodes: q.ShuffleNodes, Runs: runs,
	}, nil
}

// timedProduction has Berth's scheduler place pods that come and go, and wait in its queue.
type timedProduction struct{ *production }

// Create implements replay.Timed.
func (p *timedProduction) Create(at int64, pod *replay.Pod) error {
	if err := p.until(at); err != nil {
		return err
	}
	made := *p.templates[templateOf(pod)]
	made.Name = pod.Name
	if err := p.sim.Create(&made); err != nil {
		return err
	}
	return p.until(at)
}

// Delete implements replay.Timed.
func (p *timedProduction) Delete(at int64, pod *replay.Pod) (waited float64, ran bool, err error) {
	if err := p.until(at); err != nil {
		return 0, false, err
	}
	o, err := p.sim.Outcome(namespace, pod.Name)
	switch {
	case err != nil:
		return 0, false, err
	case o.Pod == nil:
		return 0, false, fmt.Errorf("it is gone, though nobody deleted it")
	}
	if ran = o.Pod.Spec.NodeName != ""; ran {
		waited = start.Add(o.After).Sub(o.Pod.CreationTimestamp.Time).Round(time.Millisecond).Seconds()
	}
	if err := p.sim.Delete(o.Pod); err != nil {
		return 0, false, err
	}
	return waited, ran, p.until(at)
}

func (p *timedProduction) until(at int64) error {
	return p.sim.RunUntil(start.Add(time.Duration(at) * time.Second))
}

// Render writes a table.
func (a *TimesAnswer) Render(out io.Writer) error {
	fmt.Fprintf(out, "%d nodes, %d GPUs, pods created and deleted at their times, %s\n\n", a.Nodes, a.GPUs, orderOf(a.ShuffledNodes))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STRATEGY\tSEED\tPODS\tNEVER RAN\tWAITED\tMEAN\tP50\tP99\tMOST")
	for _, r := range a.Runs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1fs\t%.1fs\t%.1fs\t%.1fs\n",
			r.Strategy, r.Seed, r.Pods, r.NeverRan, r.Waited, r.MeanSeconds, r.P50Seconds, r.P99Seconds, r.MaxSeconds)
	}
	return w.Flush()
}
