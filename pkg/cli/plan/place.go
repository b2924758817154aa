// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// cluster has the planned nodes, and what is on them.
type cluster struct {
	shapes []Shape
	labels map[string]string
	// objects are those beside nodes and pods.
	objects []runtime.Object
	pods    []*corev1.Pod
	// inTurn: each pod is created once the one before it is Ready, or waits; else all at once, as by kubectl apply.
	inTurn bool
}

// placement is where pods went on so many nodes.
type placement struct {
	counts []int
	pods   []whatif.Pod
	// bound are the pods that have a place, and nodes and reports those that they may be on, without what is used.
	bound   []*corev1.Pod
	nodes   []*corev1.Node
	reports []*gpunode.Object
	// waiting has a place for none, or evicted for one.
	waiting []whatif.Pod
	// atOnce is why the pods were created one after the other, each once the one before it was Ready; nil if they were not.
	atOnce *failure
	// lost are nodes that were taken away before, all of whose pods were to find a place on the others.
	lost []string
}

func (c *cluster) snapshot(counts []int) *simulator.Snapshot {
	s := &simulator.Snapshot{Time: at}
	for _, obj := range c.objects {
		s.Objects = append(s.Objects, obj.DeepCopyObject())
	}
	addNodes(s, c.shapes, c.labels, counts)
	return s
}

// place has the scheduler place all pods on so many nodes, one after the other.
func (c *cluster) place(ctx context.Context, counts []int) (*placement, error) {
	snapshot := c.snapshot(counts)
	p := &placement{counts: counts}
	for _, obj := range snapshot.Objects {
		switch o := obj.(type) {
		case *corev1.Node:
			p.nodes = append(p.nodes, o.DeepCopy())
		case *gpunode.Object:
			p.reports = append(p.reports, o.DeepCopyObject().(*gpunode.Object))
		}
	}
	return p, p.run(ctx, snapshot, c.pods, c.inTurn)
}

// run has the scheduler place pods, and keeps what became of them.
func (p *placement) run(ctx context.Context, snapshot *simulator.Snapshot, pods []*corev1.Pod, inTurn bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sim, err := simulator.New(ctx, snapshot, simulator.Options{})
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if !sim.IsOurs(pod) {
			return fmt.Errorf("pod %s/%s is not placed by this scheduler: its schedulerName is %q", pod.Namespace, pod.Name, pod.Spec.SchedulerName)
		}
	}
	together := [][]*corev1.Pod{pods}
	if inTurn {
		together = slices.Collect(slices.Chunk(pods, 1))
	}
	for _, some := range together {
		if err := sim.Create(some...); err != nil {
			return err
		}
		if err := sim.Run(); err != nil {
			return err
		}
	}
	for _, pod := range pods {
		o, err := whatif.OutcomeOf(sim, pod.Namespace, pod.Name)
		if err != nil {
			return err
		}
		p.pods = append(p.pods, o)
		if o.Node == "" || len(o.Victims) > 0 {
			p.waiting = append(p.waiting, o)
		}
		if now := sim.Pod(pod.Namespace, pod.Name); now != nil && o.Node != "" {
			p.bound = append(p.bound, now.DeepCopy())
		}
	}
	return nil
}

// survives takes nodes away, in each way to lose so many of which there is no other like it, and has the scheduler place their
// pods on the others, while all other pods stay where they are. It returns the first way in which not all find a place; nil if
// all do in all.
func (c *cluster) survives(ctx context.Context, p *placement, lose int) (*placement, error) {
	alike := p.alike()
	seen := map[string]bool{}
	var lost []string
	var try func(from int) (*placement, error)
	try = func(from int) (*placement, error) {
		if len(lost) == lose {
			kinds := make([]string, len(lost))
			for i, name := range lost {
				kinds[i] = alike[name]
			}
			slices.Sort(kinds)
			key := strings.Join(kinds, "\n")
			if seen[key] {
				return nil, nil
			}
			seen[key] = true
			after, err := c.without(ctx, p, lost)
			if err != nil || len(after.waiting) == 0 {
				return nil, err
			}
			return after, nil
		}
		for i := from; i < len(p.nodes); i++ {
			lost = append(lost, p.nodes[i].Name)
			failed, err := try(i + 1)
			lost = lost[:len(lost)-1]
			if failed != nil || err != nil {
				return failed, err
			}
		}
		return nil, nil
	}
	return try(0)
}

// without places the pods of lost nodes anew.
func (c *cluster) without(ctx context.Context, p *placement, lost []string) (*placement, error) {
	s := c.snapshot(p.counts)
	for _, pod := range p.bound {
		s.Objects = append(s.Objects, pod.DeepCopy())
	}
	after := &placement{counts: p.counts, lost: slices.Clone(lost)}
	var displaced []*corev1.Pod
	for _, name := range lost {
		pods, err := s.Drain(name)
		if err != nil {
			return nil, err
		}
		displaced = append(displaced, pods...)
	}
	return after, after.run(ctx, s, displaced, c.inTurn)
}

// alike names, for each node, what is on it: of two nodes of a name it does not matter which one is lost.
func (p *placement) alike() map[string]string {
	on := map[string][]string{}
	for i := range p.pods {
		pod := &p.pods[i]
		what := workloadOf(p.bound[slices.IndexFunc(p.bound, func(b *corev1.Pod) bool { return b.Namespace == pod.Namespace && b.Name == pod.Name.Name })])
		for _, d := range pod.Devices {
			what += fmt.Sprintf(" %s=%d", strings.TrimPrefix(d.UUID, "GPU-"+pod.Node), d.Memory)
		}
		on[pod.Node] = append(on[pod.Node], what)
	}
	out := map[string]string{}
	for _, node := range p.nodes {
		what := on[node.Name]
		slices.Sort(what)
		out[node.Name] = node.Name[:strings.LastIndex(node.Name, "-")] + "\n" + strings.Join(what, "\n")
	}
	return out
}
