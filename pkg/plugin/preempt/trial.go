// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package preempt

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/evict"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// complete tries with the framework's own filters whether the pod fits on the node of an eviction once its victims are
// gone. If the pod's other needs (CPU, memory, ports, affinity) are not met then, the least important others have to go
// too. It says whether there is one, with victims at all.
func (s *Search) complete(ctx context.Context, p *Eviction) bool {
	t := s.e.NewTrial(ctx, s.state, s.dryRun(p.Node), s.preemptor, p.Node)
	victims, status := t.victims(p, cycle.Of(t.state).Gone)
	if !status.IsSuccess() || len(victims) == 0 {
		// Without victims it fits once memory is back, which was looked for before, or something else changed meanwhile.
		return false
	}
	slices.SortFunc(victims, func(a, b int) int { return compareImportance(p.eligible[a].pod, p.eligible[b].pod) })
	p.chosen, p.Cost = victims, evict.CostOf(p.victims, victims, s.allowed)
	return true
}

// Trial is a copy of a node, and of the cycle's state, on which pods are taken away and put back.
type Trial struct {
	e         *Evictor
	ctx       context.Context
	state     fwk.CycleState
	preemptor *corev1.Pod
	node      fwk.NodeInfo
}

// NewTrial returns a trial of a pod on a node, under what is assumed.
func (e *Evictor) NewTrial(ctx context.Context, state fwk.CycleState, assumed *cycle.State, pod *corev1.Pod, ni fwk.NodeInfo) *Trial {
	state = state.Clone()
	state.Write(cycle.Key, assumed.Clone()) // a trial takes more away
	return &Trial{e: e, ctx: ctx, state: state, preemptor: pod, node: ni.Snapshot()}
}

// SetNode replaces the node itself, where a newer one is known.
func (t *Trial) SetNode(node *corev1.Node) { t.node.SetNode(node) }

// victims returns those of the eviction, and who else has to go.
func (t *Trial) victims(p *Eviction, comingBack sets.Set[types.UID]) ([]int, *fwk.Status) {
	if status := t.RemoveGone(comingBack); !status.IsSuccess() {
		return nil, status
	}
	for _, v := range p.chosen {
		if status := t.remove(p.eligible[v].info); !status.IsSuccess() {
			return nil, status
		}
	}
	if t.Fits().IsSuccess() {
		return slices.Clone(p.chosen), nil
	}
	var others []int
	for v := range p.eligible {
		if !slices.Contains(p.chosen, v) && corev1helpers.PodPriority(p.eligible[v].pod) < corev1helpers.PodPriority(t.preemptor) {
			others = append(others, v)
			if status := t.remove(p.eligible[v].info); !status.IsSuccess() {
				return nil, status
			}
		}
	}
	if status := t.Fits(); !status.IsSuccess() {
		return nil, status
	}
	slices.SortFunc(others, func(a, b int) int { return compareImportance(p.eligible[a].pod, p.eligible[b].pod) })
	victims := slices.Clone(p.chosen)
	for _, v := range others {
		info := p.eligible[v].info
		if status := t.add(info); !status.IsSuccess() {
			return nil, status
		}
		if t.Fits().IsSuccess() {
			continue // reprieved
		}
		if status := t.remove(info); !status.IsSuccess() {
			return nil, status
		}
		victims = append(victims, v)
	}
	return victims, nil
}

// RemoveGone takes the pods away that are assumed to go without being evicted for this pod: those of some sets, and
// those that terminate, if it is assumed that they do so in time.
func (t *Trial) RemoveGone(gone ...sets.Set[types.UID]) *fwk.Status {
	terminating := cycle.Of(t.state).Drained
	for _, pi := range slices.Clone(t.node.GetPods()) {
		pod := pi.GetPod()
		if terminating && pod.DeletionTimestamp != nil || slices.ContainsFunc(gone, func(s sets.Set[types.UID]) bool { return s.Has(pod.UID) }) {
			if status := t.remove(pi); !status.IsSuccess() {
				return status
			}
		}
	}
	return nil
}

// Fits runs the framework's filters.
func (t *Trial) Fits() *fwk.Status {
	return t.e.Handle.RunFilterPluginsWithNominatedPods(t.ctx, t.state, t.preemptor, t.node)
}

func (t *Trial) remove(pi fwk.PodInfo) *fwk.Status {
	if err := t.node.RemovePod(klog.FromContext(t.ctx), pi.GetPod()); err != nil {
		return fwk.AsStatus(err)
	}
	return t.e.Handle.RunPreFilterExtensionRemovePod(t.ctx, t.state, t.preemptor, pi, t.node)
}

func (t *Trial) add(pi fwk.PodInfo) *fwk.Status {
	t.node.AddPodInfo(pi)
	return t.e.Handle.RunPreFilterExtensionAddPod(t.ctx, t.state, t.preemptor, pi, t.node)
}

// compareImportance puts the higher priority first, then the older pod, then the name: the order in which the executor
// wants victims, and in which pods are reprieved.
func compareImportance(a, b *corev1.Pod) int {
	if pa, pb := corev1helpers.PodPriority(a), corev1helpers.PodPriority(b); pa != pb {
		return int(int64(pb) - int64(pa)) // int is 64 bits wide on every platform that Kubernetes runs on
	}
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
}
