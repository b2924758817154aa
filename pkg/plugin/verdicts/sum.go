// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package verdicts

import (
	"fmt"

	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// explainSum says, for people, of the first node whose GPUs would do how its kubelet counts; empty if there is none. Where
// nodes advertise their GPU memory it says too of the node that has the most left in sum that none of its GPUs has room:
// autoscalers see the sum.
func (r Reader) explainSum(s *cycle.State, m fwk.NodeToStatusReader) string {
	if s.Asked == 0 {
		return ""
	}
	var most cycle.Sum
	name := ""
	for _, ni := range append(r.toExplain(m, fwk.Unschedulable), r.toExplain(m, fwk.UnschedulableAndUnresolvable)...) {
		sum, listed := cycle.SumOf(ni)
		if !listed {
			continue
		}
		view := s.View(ni)
		fits := s.Fit(&view).Fits
		switch lacks, _ := s.Lacks(ni); {
		case lacks && fits:
			return fmt.Sprintf("on node %s: it advertises %s of the resource %s, of which its pods ask for %s; a GPU would do",
				ni.Node().Name, bytes(sum.Advertised), berthv1alpha1.ResourceGPUMemory, bytes(sum.Asked))
		case !lacks && !fits && view.Reason == "" && (name == "" || sum.Left() > most.Left()):
			name, most = ni.Node().Name, sum
		}
	}
	if name == "" || !r.Args.GPUMemoryResource {
		return ""
	}
	return fmt.Sprintf("node %s has %s of the resource %s left in sum, and not on the GPUs as they are asked for: an autoscaler, "+
		"which counts sums, may add no node for this pod", name, bytes(most.Left()), berthv1alpha1.ResourceGPUMemory)
}

func bytes(n int64) string { return alloc.BytesOfInt64(n).String() }
