// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package verdicts

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// maxExplained bounds how many nodes are looked at for the nearest miss: it is for people, and a cluster that is full
// fails thousands of pods.
const maxExplained = 64

// Explain says, for people, how near the pod came: the node on which the option that lacks least lacks how much, GPU
// by GPU. It goes behind the counted reasons in the pod's PodScheduled condition and FailedScheduling event.
func (r Reader) Explain(s *cycle.State, pod *corev1.Pod, m fwk.NodeToStatusReader) []string {
	var reasons []string
	if r.isSurge(pod) {
		reasons = append(reasons, "this is the surge pod of a rolling update, and the pods that it is to replace hold the GPUs: "+
			"set strategy.rollingUpdate maxSurge: 0 and maxUnavailable: 1, or free a GPU")
	}
	if near, ok := r.nearestMiss(s, m); ok {
		reasons = append(reasons, near)
	}
	if why := r.explainHandOff(s, m); why != "" {
		reasons = append(reasons, why)
	}
	if sum := r.explainSum(s, m); sum != "" {
		reasons = append(reasons, sum)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, "no pods can be evicted that would make room")
	}
	return reasons
}

func (r Reader) nearestMiss(s *cycle.State, m fwk.NodeToStatusReader) (string, bool) {
	var nearest string
	var lacks alloc.Bytes
	for _, ni := range r.toExplain(m, fwk.Unschedulable) {
		view := s.View(ni)
		if view.Reason != "" {
			continue
		}
		asked := s.Request.On(&view.Node)
		for _, v := range alloc.Explain(&view.Node, asked) {
			short, text := missOf(&v, len(asked.Options()[v.Option].Shares))
			if text != "" && (nearest == "" || short.Less(lacks)) {
				nearest, lacks = "nearest on node "+view.Name+": "+text, short
			}
		}
	}
	return nearest, nearest != ""
}

// toExplain returns the nodes of a status that are looked at: the first in the scheduler's own order.
func (r Reader) toExplain(m fwk.NodeToStatusReader, code fwk.Code) (nodes []fwk.NodeInfo) {
	all, err := r.Handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return nil
	}
	for _, ni := range all {
		if m.Get(ni.Node().Name).Code() == code {
			if nodes = append(nodes, ni); len(nodes) == maxExplained {
				break
			}
		}
	}
	return nodes
}

// missOf says what an option lacks: in bytes on the devices that lack least, and in words, GPU by GPU.
func missOf(v *alloc.OptionVerdict, devices int) (alloc.Bytes, string) {
	// An option that could never fit on the node is no near miss, however little it lacks.
	if v.Fits || len(v.Devices) < devices || v.Reason == alloc.ReasonInsufficientCapacity {
		return alloc.Bytes{}, ""
	}
	shorts := make([]alloc.Bytes, len(v.Devices))
	parts := make([]string, len(v.Devices))
	for i, d := range v.Devices {
		shorts[i] = d.Short
		parts[i] = fmt.Sprintf("GPU %d (%s) has %s free", d.Index, d.UUID, d.Free)
		if d.Reason != "" && d.Reason != alloc.ReasonInsufficientFree {
			parts[i] += ": " + string(d.Reason)
		}
	}
	slices.SortFunc(shorts, alloc.Bytes.Compare)
	var lacks alloc.Bytes
	for _, short := range shorts[:devices] {
		lacks = lacks.Plus(short)
	}
	return lacks, fmt.Sprintf("needs %s on %s; %s", v.Devices[0].Needed, words.Plural(devices, "GPU"), strings.Join(parts, ", "))
}

// isSurge says whether the pod is to replace others of its own Deployment that hold GPU memory.
func (r Reader) isSurge(pod *corev1.Pod) bool {
	if !strings.HasPrefix(gpustate.WorkloadOf(pod), "Deployment/") {
		return false
	}
	siblings, err := r.Pods.Pods(pod.Namespace).List(labels.Everything())
	if err != nil {
		return false
	}
	for _, other := range siblings {
		if other.Spec.NodeName != "" && gpustate.SameWorkload(other, pod) && claims.ControllerOf(other) != claims.ControllerOf(pod) {
			return true
		}
	}
	return false
}
