// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package replay replays a trace of a GPU cluster by several strategies on the same arrivals: Berth's own through the scheduler
// that places pods in a cluster, those to compare with through models of them.
package replay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/replay"
	"github.com/berth-dev/berth/pkg/replay/fgd"
)

// APIVersion and Kind are of the JSON form of an Answer.
const (
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "Replay"
)

// Question is what is to be replayed.
type Question struct {
	Trace      *replay.Trace
	Strategies []string
	// Seeds is how many arrivals of pods are tried, by the seeds from 1.
	Seeds int
	// Percent of the GPUs is what the pods that arrive ask for.
	Percent int
	// ShuffleNodes has the nodes in an order that comes of the seed, instead of that of the list.
	ShuffleNodes bool
	// Parallel is how many runs go on at once.
	Parallel int
}

// Answer is what came of it.
type Answer struct {
	metav1.TypeMeta `json:",inline"`
	Nodes           int `json:"nodes"`
	GPUs            int `json:"gpus"`
	Pods            int `json:"pods"`
	Seeds           int `json:"seeds"`
	// Arrive is which part of the GPUs the pods ask for that arrive.
	Arrive        float64       `json:"arrive"`
	ShuffledNodes bool          `json:"shuffledNodes"`
	Strategies    []Strategy    `json:"strategies"`
	Runs          []*replay.Run `json:"runs"`
}

// Strategy is what the runs of a strategy have in common.
type Strategy struct {
	Strategy      string        `json:"strategy"`
	Allocated     replay.Spread `json:"allocated"`
	Fragmentation replay.Spread `json:"fragmentation"`
	Failed        replay.Spread `json:"failed"`
	// AgainstFGD is how much more it allocates than FGD with the same seed; nil where FGD was not replayed.
	AgainstFGD *replay.Spread `json:"againstFGD,omitempty"`
	// Curve is the mean of the curves of the runs.
	Curve []replay.Point `json:"curve"`
}

// Progress is how far a replay has come. It may be read while the replay goes on.
type Progress struct {
	// AllRuns is how many there are in all, Runs how many are done, and Pods how many pods have arrived.
	AllRuns, Runs, Pods atomic.Int64
}

// reference is the strategy that all others are compared with.
const reference = "FGD"

// Ask replays.
func Ask(ctx context.Context, q *Question, progress *Progress) (*Answer, error) {
	runs, err := each(ctx, q, progress, func(ctx context.Context, r *run) (*replay.Run, error) {
		var placer replay.Placer
		if slices.Contains(replay.References, r.strategy) {
			placer = replay.NewReference(r.strategy, r.nodes, q.Trace, r.seed)
		} else {
			var err error
			if placer, err = newProduction(ctx, r.strategy, r.nodes, r.templates); err != nil {
				return nil, err
			}
		}
		arrivals := replay.Arrivals(q.Trace.Pods, replay.Capacity(r.nodes), q.Percent, r.seed)
		done, err := replay.Arrive(ctx, r.nodes, q.Trace, arrivals, q.Percent, placer, r.step)
		if err == nil {
			done.Strategy, done.Seed = r.strategy, r.seed
		}
		return done, err
	})
	if err != nil {
		return nil, err
	}
	return q.answer(runs), nil
}

// run is one strategy with one seed.
type run struct {
	strategy  string
	seed      uint64
	nodes     []replay.Node
	templates templates
	step      func()
}

// each does each run, some at once, and returns what came of them in the order of the strategies, and then of the seeds.
func each[T any](ctx context.Context, q *Question, progress *Progress, do func(context.Context, *run) (T, error)) ([]T, error) {
	known := Strategies()
	for i, name := range q.Strategies {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("strategy %q is not known: use some of %s", name, strings.Join(known, ", "))
		}
		if slices.Contains(q.Strategies[:i], name) {
			return nil, fmt.Errorf("strategy %s is named twice", name)
		}
	}
	templates, err := newTemplates(ctx, q.Trace)
	if err != nil {
		return nil, err
	}
	results := make([]T, len(q.Strategies)*q.Seeds)
	progress.AllRuns.Store(int64(len(results)))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(q.Parallel)
	for i := range results {
		group.Go(func() error {
			ctx, cancel := context.WithCancel(ctx) // ends its simulator
			defer cancel()
			r := &run{
				strategy: q.Strategies[i/q.Seeds], seed: uint64(i%q.Seeds + 1), nodes: q.Trace.Nodes, templates: templates,
				step: func() { progress.Pods.Add(1) },
			}
			if q.ShuffleNodes {
				r.nodes = replay.Shuffled(r.nodes, r.seed)
			}
			var err error
			if results[i], err = do(ctx, r); err != nil {
				return fmt.Errorf("%s, seed %d: %w", r.strategy, r.seed, err)
			}
			progress.Runs.Add(1)
			return nil
		})
	}
	return results, group.Wait()
}

func (q *Question) gpus() int { return int(replay.Capacity(q.Trace.Nodes) / fgd.Whole) }

func (q *Question) answer(runs []*replay.Run) *Answer {
	a := &Answer{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Nodes: len(q.Trace.Nodes),
		GPUs: q.gpus(), Pods: len(q.Trace.Pods), Seeds: q.Seeds, Arrive: float64(q.Percent) / 100,
		ShuffledNodes: q.ShuffleNodes, Strategies: []Strategy{}, Runs: runs,
	}
	of := func(i int) []*replay.Run { return runs[i*q.Seeds : (i+1)*q.Seeds] }
	first := slices.Index(q.Strategies, reference)
	for i, name := range q.Strategies {
		each := func(value func(*replay.Run) float64) replay.Spread {
			values := make([]float64, q.Seeds)
			for j, r := range of(i) {
				values[j] = value(r)
			}
			return replay.SpreadOf(values)
		}
		s := Strategy{
			Strategy:      name,
			Allocated:     each(func(r *replay.Run) float64 { return r.Allocated }),
			Fragmentation: each(func(r *replay.Run) float64 { return r.Fragmentation }),
			Failed:        each(func(r *replay.Run) float64 { return float64(r.Failed) }),
			Curve:         replay.MeanCurve(of(i)),
		}
		if first >= 0 && first != i {
			against := each(func(r *replay.Run) float64 { return r.Allocated - of(first)[r.Seed-1].Allocated })
			s.AgainstFGD = &against
		}
		a.Strategies = append(a.Strategies, s)
	}
	return a
}
