// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/plugin/verdicts"
)

// Explanation is the first cycle of a pod.
type Explanation struct {
	// Failure is what the scheduler said of it; empty if it found a place.
	Failure string
	// Options are what it asks for: the memory on each GPU, for each option. Nodes is what it sees of each node. Both are
	// nil if it asks for no GPU memory, or nothing was looked at.
	Options [][]alloc.Bytes
	Nodes   []verdicts.Node
	// Others says, by node, which plugin refused it there and why. That of Berth is among them.
	Others map[string]Refusal
}

// Refusal is why a plugin refused a node.
type Refusal struct{ Plugin, Message string }

// Explain runs cycles until a pod of the snapshot has had one, and explains it. The nodes are seen as they were before anybody
// was evicted for it.
func (s *Simulator) Explain(namespace, name string) (*Explanation, error) {
	pod := s.Pod(namespace, name)
	if pod == nil {
		return nil, fmt.Errorf("there is no pod %s/%s", namespace, name)
	}
	e := &Explanation{Others: map[string]Refusal{}}
	s.explaining, s.explained = pod.UID, e
	defer func() { s.explaining, s.explained = types.UID(""), nil }()
	for !s.hasHistory(pod.UID) && s.toTry() > 0 {
		if err := s.scheduleOne(); err != nil {
			return nil, err
		}
	}
	if now := s.Pod(namespace, name); now != nil && now.Spec.NodeName == "" {
		e.Failure = s.whyPending(now)
	}
	return e, nil
}

// explainOthers asks the filters of all plugins about the pod of the cycle, which found a place: the framework keeps only
// where.
func (s *Simulator) explainOthers() {
	profile := s.sched.Profiles[s.cycle.pod.Spec.SchedulerName]
	nodes, err := profile.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return
	}
	for _, ni := range nodes {
		if status := profile.RunFilterPluginsWithNominatedPods(s.ctx, s.cycle.state.Clone(), s.cycle.pod, ni); !status.IsSuccess() {
			s.explained.Others[ni.Node().Name] = Refusal{Plugin: status.Plugin(), Message: status.Message()}
		}
	}
}

// explain is told of each cycle, before its outcome is applied.
func (s *Simulator) explain(pod *corev1.Pod, f *failure) {
	if pod.UID != s.explaining || s.cycle.state == nil && f == nil {
		return
	}
	if s.cycle.state != nil {
		s.explained.Options, s.explained.Nodes = verdicts.Options(s.cycle.state), s.plugin.Verdicts(s.cycle.state)
	}
	if f == nil {
		s.explainOthers()
	} else if fit := f.fit(); fit != nil {
		fit.Diagnosis.NodeToStatus.ForEachExplicitNode(func(node string, status *fwk.Status) {
			s.explained.Others[node] = Refusal{Plugin: status.Plugin(), Message: status.Message()}
		})
	}
}
