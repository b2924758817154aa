// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/claims"
)

const (
	cycleKey    fwk.StateKey = "PreFilter" + Name
	reservedKey fwk.StateKey = "Reserve" + Name
)

// cycleState is what PreFilter found out for one pod and cycle.
type cycleState struct {
	// cycleShared never changes during a cycle and is shared by all clones.
	*cycleShared
	// gone are pods that are assumed to be gone, such as victims. Nodes are tried in parallel, each with a clone.
	gone sets.Set[types.UID]
	// dryRun says that this is a try under assumptions: the loader rule is left out, since it is waited for.
	dryRun bool
	// drained says that memory that is on its way back counts as free.
	drained bool
}

type cycleShared struct {
	request *gpustate.Request
	// shape is the number of what is asked for.
	shape    uint64
	viewer   *gpustate.Viewer
	priority int32
	uid      types.UID
	// scores are what Filter found out for Score on the way: *corev1.Node → int64.
	scores sync.Map
}

// Clone implements fwk.StateData.
func (s *cycleState) Clone() fwk.StateData {
	c := *s
	c.gone = s.gone.Clone()
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
		Pod: s.uid, Runtime: s.request.Runtime, Priority: s.priority, Removed: s.gone,
		IgnoreLoading: s.dryRun, Returned: s.drained,
	}
}

// view derives what a node looks like to the pod.
func (pl *Plugin) view(s *cycleState, ni fwk.NodeInfo) gpustate.View {
	q := s.query()
	q.Generation = ni.GetGeneration()
	if view, ok := s.viewer.Recall(ni.Node(), &q); ok {
		return view
	}
	var room [64]*corev1.Pod // on the stack: views are made for thousands of nodes
	return s.viewer.View(ni.Node(), appendPods(room[:0], ni), &q)
}

// explained is view with the charges of each pod.
func (pl *Plugin) explained(s *cycleState, ni fwk.NodeInfo) gpustate.View {
	q := s.query()
	q.Generation = ni.GetGeneration()
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

// assume returns the state of a try in which pods are gone and everyone has loaded; drained says that all memory that is
// on its way back is back.
func (s *cycleState) assume(drained bool, gone ...sets.Set[types.UID]) *cycleState {
	a := &cycleState{cycleShared: s.cycleShared, gone: s.gone.Clone(), dryRun: true, drained: drained}
	for _, pods := range gone {
		if a.gone == nil && len(pods) > 0 {
			a.gone = sets.New[types.UID]()
		}
		for uid := range pods {
			a.gone.Insert(uid)
		}
	}
	return a
}

// on returns the pods of a NodeInfo whose memory comes back; nil if there are none.
func on(ni fwk.NodeInfo, all claims.ComingBack) (found sets.Set[types.UID]) {
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

// assumeGone marks a victim of a dry run.
func (s *cycleState) assumeGone(uid types.UID) {
	if s.gone == nil {
		s.gone = sets.New[types.UID]()
	}
	s.gone.Insert(uid)
	s.dryRun = true
}

func priorityOf(pod *corev1.Pod) int32 { return corev1helpers.PodPriority(pod) }
