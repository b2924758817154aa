// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/gpustate"
)

const (
	cycleKey    fwk.StateKey = "PreFilter" + Name
	reservedKey fwk.StateKey = "Reserve" + Name
)

// cycleState is what PreFilter found out for one pod and cycle.
type cycleState struct {
	// cycleShared never changes during a cycle and is shared by all clones.
	*cycleShared
	// removed are victims that are assumed to be gone. Nodes are tried in parallel, each with a clone.
	removed sets.Set[types.UID]
	// dryRun says that this is a try of preemption: the loader rule is left out, since it is waited for, and
	// memory that is on its way back counts as free if returned is set.
	dryRun, returned bool
}

type cycleShared struct {
	request *gpustate.Request
	// handOff is how the pod can be told its GPUs.
	handOff gpustate.HandOff
	// shape is the number of what is asked for.
	shape    uint64
	viewer   *gpustate.Viewer
	priority int32
	uid      types.UID
	// group says that this is a cycle of a pod group.
	group bool
	// scores are what Filter found out for Score on the way: *corev1.Node → int64.
	scores sync.Map
}

// Clone implements fwk.StateData.
func (s *cycleState) Clone() fwk.StateData {
	c := *s
	c.removed = s.removed.Clone()
	return &c
}

// getCycleState returns the state of a pod that asks for GPU memory; nil for one that does not, whose PreFilter wrote none.
func getCycleState(state fwk.CycleState) *cycleState {
	data, err := state.Read(cycleKey)
	if err != nil {
		return nil
	}
	s, _ := data.(*cycleState)
	return s
}

func (s *cycleState) query() gpustate.Query {
	return gpustate.Query{
		Pod: s.uid, Runtime: s.request.Runtime, Removed: s.removed,
		IgnoreLoading: s.dryRun, Returned: s.returned,
	}
}

// generation names the list of pods of a NodeInfo; zero = nothing does. While a group of pods is placed, its pods come to
// the list and go, and its generation stays.
func (s *cycleState) generation(ni fwk.NodeInfo) int64 {
	if s.group {
		return 0
	}
	return ni.GetGeneration()
}

// view derives what a node looks like to the pod.
func (pl *Plugin) view(s *cycleState, ni fwk.NodeInfo) gpustate.View {
	q := s.query()
	q.Held, q.Generation = pl.held(s, ni), s.generation(ni)
	if view, ok := s.viewer.Recall(ni.Node(), &q); ok {
		return view
	}
	var room [64]*corev1.Pod // on the stack: views are made for thousands of nodes
	return s.viewer.View(ni.Node(), appendPods(room[:0], ni), &q)
}

// explained is view with the charges of each pod.
func (pl *Plugin) explained(s *cycleState, ni fwk.NodeInfo) gpustate.View {
	q := s.query()
	q.Held, q.Generation = pl.held(s, ni), s.generation(ni)
	if view, ok := s.viewer.Recall(ni.Node(), &q); ok && view.Charges != nil {
		return view
	}
	return s.viewer.Explain(ni.Node(), podsOf(ni), &q)
}

// podsOf returns the pods of a NodeInfo.
func podsOf(ni fwk.NodeInfo) []*corev1.Pod {
	return appendPods(make([]*corev1.Pod, 0, len(ni.GetPods())), ni)
}

func appendPods(pods []*corev1.Pod, ni fwk.NodeInfo) []*corev1.Pod {
	for _, pi := range ni.GetPods() {
		pods = append(pods, pi.GetPod())
	}
	return pods
}

// nodeInfo returns a node of the cycle's snapshot.
func (pl *Plugin) nodeInfo(name string) (fwk.NodeInfo, error) {
	ni, err := pl.handle.SnapshotSharedLister().NodeInfos().Get(name)
	if err != nil {
		return nil, fmt.Errorf("node %s of the snapshot: %w", name, err)
	}
	return ni, nil
}

// returnedOn returns the state of a try on a node in which memory that is on its way back counts as free, that of the
// promised pods too, and everyone has loaded.
func (s *cycleState) returnedOn(ni fwk.NodeInfo, all promisedPods) *cycleState {
	r := &cycleState{cycleShared: s.cycleShared, removed: s.removed.Clone(), dryRun: true, returned: true}
	if promised := all[ni.Node().Name]; len(promised) > 0 {
		for _, pi := range ni.GetPods() {
			if uid := pi.GetPod().UID; promised.Has(uid) {
				r.assumeGone(uid)
			}
		}
	}
	return r
}

// assumeGone marks a victim of a dry run.
func (s *cycleState) assumeGone(uid types.UID) {
	if s.removed == nil {
		s.removed = sets.New[types.UID]()
	}
	s.removed.Insert(uid)
	s.dryRun = true
}
