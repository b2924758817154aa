// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/replay"
	"github.com/berth-dev/berth/pkg/simulator"
)

// withDefaults behind the name of one of Berth's strategies stands for the profile as it is shipped, in which kube-scheduler's
// own scores decide between nodes that are equal by Berth's.
const withDefaults = "+defaults"

// Strategies are the names of all strategies that can be replayed: those to compare with, Berth's own, and Berth's own in the
// profile as it is shipped.
func Strategies() []string {
	names := slices.Clone(replay.References)
	for _, s := range alloc.Strategies {
		names = append(names, string(s))
	}
	for _, s := range alloc.Strategies {
		names = append(names, string(s)+withDefaults)
	}
	return names
}

// production places pods by Berth's scheduler: its plugin, in kube-scheduler.
type production struct {
	sim       *simulator.Simulator
	templates templates
	node      map[string]int // by its name
	gpu       map[string]int // by its UUID
	placed    int
}

// start is when a replay begins: no decision depends on it.
var start = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func newProduction(ctx context.Context, strategy string, nodes []replay.Node, templates templates) (*production, error) {
	p := &production{templates: templates, node: map[string]int{}, gpu: map[string]int{}}
	objects := []runtime.Object{runtimeClass()}
	for i := range nodes {
		made, err := nodeObjects(i, &nodes[i])
		if err != nil {
			return nil, err
		}
		objects = append(objects, made...)
		name := nodeName(i, &nodes[i])
		p.node[name] = i
		for g := range nodes[i].GPUs {
			p.gpu[deviceUUID(name, g)] = g
		}
	}
	name, shipped := strings.CutSuffix(strategy, withDefaults)
	var err error
	p.sim, err = simulator.New(ctx, &simulator.Snapshot{Time: start, Objects: objects}, simulator.Options{
		// Agents that do not report are never stale, and pods get all the memory there is.
		Args: map[string]any{"strategy": name, "headroom": "0", "staleAfter": "0s"},
		Bare: true, OnlyBerth: !shipped,
	})
	return p, err
}

// Place implements replay.Placer.
func (p *production) Place(pod *replay.Pod) (at replay.Placement, nowhere string, err error) {
	p.placed++
	try := *p.templates[templateOf(pod)]
	try.Name = fmt.Sprintf("%s-%d", pod.Name, p.placed) // it may arrive more than once
	bound, nowhere, err := p.sim.Try(&try)
	if err != nil || nowhere != "" {
		return at, nowhere, err
	}
	var ok bool
	if at.Node, ok = p.node[bound.Spec.NodeName]; !ok {
		return at, "", fmt.Errorf("it was bound to %s, which is no node of the trace", bound.Spec.NodeName)
	}
	allocation, err := gpustate.BookingOf(bound)
	if err != nil || allocation == nil {
		return at, "", err
	}
	for _, d := range allocation.Devices {
		gpu, ok := p.gpu[d.UUID]
		if want := uint64(pod.Milli) * perMilli; !ok || d.Memory.Uint64() != want {
			return at, "", fmt.Errorf("it was given %s of GPU %s, and asks for %d bytes", d.Memory, d.UUID, want)
		}
		at.GPUs = append(at.GPUs, gpu)
	}
	return at, "", nil
}
