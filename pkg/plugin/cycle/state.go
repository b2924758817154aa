// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cycle is what one scheduling cycle knows of its pod, and how the pod sees a node: as it is, or under the
// assumption that others are gone, that memory which is on its way is back, and that everyone has loaded. It decides
// nothing.
package cycle

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	resourcehelper "k8s.io/component-helpers/resource"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/claims"
)

const (
	// Key is where PreFilter leaves the state.
	Key fwk.StateKey = "PreFilterBerth"
	// PlainKey is where PreScore leaves that of a pod that asks for no GPU memory: its Request is empty, and it is only ranked.
	PlainKey fwk.StateKey = "PreScoreBerth"
)

// State is what PreFilter found out for one pod and cycle, and what is assumed in a try.
type State struct {
	// Pod never changes during a cycle and is shared by all clones.
	*Pod
	// Gone are pods that are assumed to be gone, such as victims. Nodes are tried in parallel, each with a clone.
	Gone sets.Set[types.UID]
	// Loaded says that everyone counts as loaded: the loader rule is left out, since it is waited for.
	Loaded bool
	// Together leaves out that replicas of one workload keep apart.
	Together bool
	// Drained says that memory that is on its way back counts as free.
	Drained bool
}

// Pod is the pod of a cycle.
type Pod struct {
	UID      types.UID
	Priority int32
	Request  *gpustate.Request
	// Needs is what the pod takes of a node beside GPUs.
	Needs alloc.Host
	// HandOff is how the pod can be told its GPUs.
	HandOff gpustate.HandOff
	// Shape is the number of what is asked for.
	Shape uint64
	// Asked is what it asks for by the resource berth.dev/gpu-memory, in bytes; 0 if it does not.
	Asked int64
	// Viewer has the reports as they were when the cycle began.
	Viewer   *gpustate.Viewer
	Strategy alloc.Strategy
	Warm     Warm
	// Group says that this is a cycle of a pod group.
	Group bool
	// Scores are what Filter found out for Score on the way: *corev1.Node → int64.
	Scores sync.Map
}

// With returns the pod with another viewer.
func (p *Pod) With(v *gpustate.Viewer) *Pod {
	return &Pod{UID: p.UID, Priority: p.Priority, Request: p.Request, Needs: p.Needs, HandOff: p.HandOff, Shape: p.Shape, Asked: p.Asked, Viewer: v, Strategy: p.Strategy, Warm: p.Warm, Group: p.Group}
}

// FormOn returns the form in which a node is told the pod's GPUs, or the reason why there is none; neither if the node
// has no report, which is for its view to say.
func (p *Pod) FormOn(ni fwk.NodeInfo) (berthv1alpha1.DeviceForm, alloc.Reason) {
	report, _ := p.Viewer.Snapshot.Report(ni.Node().Name, 0)
	if report == nil {
		return "", ""
	}
	return p.HandOff.FormOn(ni.Node(), report)
}

// LimitOn returns who holds the pod to its booking on a node where its GPUs are named in a form, or the reason why it cannot be
// there.
func (p *Pod) LimitOn(ni fwk.NodeInfo, form berthv1alpha1.DeviceForm) (berthv1alpha1.Enforcement, alloc.Reason) {
	report, _ := p.Viewer.Snapshot.Report(ni.Node().Name, 0)
	if report == nil {
		return "", gpustate.ReasonNoReport
	}
	return p.HandOff.LimitOn(ni.Node(), report, form)
}

// Clone implements fwk.StateData.
func (s *State) Clone() fwk.StateData {
	c := *s
	c.Gone = s.Gone.Clone()
	return &c
}

// Of returns the state of a pod that asks for GPU memory; nil for one that does not, whose PreFilter wrote none.
func Of(state fwk.CycleState) *State { return read(state, Key) }

// Ranked returns the state of a pod whose nodes are ranked, be it one that asks for no GPU memory; nil if nothing is.
func Ranked(state fwk.CycleState) *State {
	if s := Of(state); s != nil {
		return s
	}
	return read(state, PlainKey)
}

func read(state fwk.CycleState, key fwk.StateKey) *State {
	data, err := state.Read(key)
	if err != nil {
		return nil
	}
	s, _ := data.(*State)
	return s
}

// Query is how the pod looks at nodes.
func (s *State) Query() gpustate.Query {
	q := gpustate.Query{
		Pod: s.UID, Runtime: s.Request.Runtime, Priority: s.Priority, Gone: s.Gone,
		Loaded: s.Loaded, Drained: s.Drained,
	}
	if !s.Together {
		q.Company = s.Request.Company
	}
	return q
}

// generation names the list of pods of a NodeInfo; zero = nothing does. While a group of pods is placed, its pods come to
// the list and go, and its generation stays.
func (p *Pod) generation(ni fwk.NodeInfo) int64 {
	if p.Group {
		return 0
	}
	return ni.GetGeneration()
}

// View derives what a node looks like to the pod.
func (s *State) View(ni fwk.NodeInfo) gpustate.View {
	q := s.Query()
	q.Generation = s.generation(ni)
	view, ok := s.Viewer.Recall(ni.Node(), &q)
	if !ok {
		var room [64]*corev1.Pod // on the stack: views are made for thousands of nodes
		view = s.Viewer.View(ni.Node(), appendPods(room[:0], ni), &q)
	}
	if o := view.Outlook; o != nil {
		view.Outlook = &alloc.Outlook{Mix: o.Mix, Kinds: o.Kinds, Host: freeHost(ni), Needs: s.Needs}
	}
	return view
}

// freeHost returns what is free on a node beside GPUs.
func freeHost(ni fwk.NodeInfo) alloc.Host {
	all, taken := ni.GetAllocatable(), ni.GetRequested()
	return alloc.Host{
		CPU:    uint64(max(all.GetMilliCPU()-taken.GetMilliCPU(), 0)),
		Memory: alloc.BytesOfInt64(all.GetMemory()).Minus(alloc.BytesOfInt64(taken.GetMemory())),
	}
}

// NeedsOf returns what a pod takes of a node beside GPUs.
func NeedsOf(pod *corev1.Pod) alloc.Host {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	return alloc.Host{CPU: uint64(max(requests.Cpu().MilliValue(), 0)), Memory: alloc.BytesOfInt64(requests.Memory().Value())}
}

// Explained is View with the charges of each pod.
func (s *State) Explained(ni fwk.NodeInfo) gpustate.View {
	q := s.Query()
	q.Generation = s.generation(ni)
	if view, ok := s.Viewer.Recall(ni.Node(), &q); ok && view.Charges != nil {
		return view
	}
	return s.Viewer.Explain(ni.Node(), PodsOf(ni), &q)
}

// PodsOf returns the pods of a NodeInfo.
func PodsOf(ni fwk.NodeInfo) []*corev1.Pod {
	return appendPods(make([]*corev1.Pod, 0, len(ni.GetPods())), ni)
}

func appendPods(pods []*corev1.Pod, ni fwk.NodeInfo) []*corev1.Pod {
	for _, pi := range ni.GetPods() {
		pods = append(pods, pi.GetPod())
	}
	return pods
}

// Assume returns the state of a try in which pods are gone and everyone has loaded; drained says that all memory that is
// on its way back is back.
func (s *State) Assume(drained bool, gone ...sets.Set[types.UID]) *State {
	a := &State{Pod: s.Pod, Gone: s.Gone.Clone(), Loaded: true, Drained: drained}
	for _, pods := range gone {
		if a.Gone == nil && len(pods) > 0 {
			a.Gone = sets.New[types.UID]()
		}
		for uid := range pods {
			a.Gone.Insert(uid)
		}
	}
	return a
}

// AssumeGone marks a victim of a dry run.
func (s *State) AssumeGone(uid types.UID) {
	if s.Gone == nil {
		s.Gone = sets.New[types.UID]()
	}
	s.Gone.Insert(uid)
	s.Loaded = true
}

// On returns the pods of a NodeInfo whose memory comes back; nil if there are none.
func On(ni fwk.NodeInfo, all claims.ComingBack) (found sets.Set[types.UID]) {
	coming := all[ni.Node().Name]
	if len(coming) == 0 {
		return nil
	}
	for _, pi := range ni.GetPods() {
		if uid := pi.GetPod().UID; coming.Has(uid) {
			if found == nil {
				found = sets.New[types.UID]()
			}
			found.Insert(uid)
		}
	}
	return found
}
