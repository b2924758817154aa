// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestOperationsOnGPUs is what docs/operations.md says of GPUs that are cut into instances, or replaced. The reports are
// those that an agent writes then.
func TestOperationsOnGPUs(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	o := &operator{t: t, lab: lab}
	drain := func(s *site, pod *corev1.Pod) {
		o.cordon(s.node.Name, true)
		if err := lab.Clientset.PolicyV1().Evictions(pod.Namespace).Evict(t.Context(), &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		}); err != nil {
			t.Fatal(err)
		}
		lab.WaitGone(t, pod)
	}

	t.Run("a GPU that is cut into instances gets no pods, its instances do", func(t *testing.T) {
		s := newSite(t, lab, "mig", 1, "80Gi")
		before, _ := s.place(s.pod("before", "30Gi", grace(0)))
		drain(s, before)
		gpu := s.gpu(0)
		s.Report(t, berthtesting.MakeGPUNode(s.node.Name).
			GPU(gpu, "80Gi").Unhealthy().GPU("MIG-a", "40Gi").GPU("MIG-b", "40Gi").Obj())
		o.cordon(s.node.Name, false)
		_, after := s.place(s.pod("after", "30Gi"))
		if got := after.Devices[0].UUID; got != "MIG-a" && got != "MIG-b" {
			t.Errorf("the pod is on %s", got)
		}
		large := harness.Create(t, lab, s.pod("larger-than-an-instance", "60Gi"))
		o.waitReason(large, gpustate.ReasonUnhealthyDevices)
	})

	t.Run("a GPU that was replaced gets pods under its own UUID", func(t *testing.T) {
		s := newSite(t, lab, "replaced", 1, "80Gi")
		before, old := s.place(s.pod("on-the-old-one", "60Gi", grace(0)))
		drain(s, before)
		s.Report(t, berthtesting.MakeGPUNode(s.node.Name).GPU("GPU-new", "80Gi").Obj())
		o.cordon(s.node.Name, false)
		_, after := s.place(s.pod("on-the-new-one", "60Gi"))
		if got := after.Devices[0].UUID; got != "GPU-new" || got == old.Devices[0].UUID {
			t.Errorf("the pod is on %s", got)
		}
	})

	t.Run("a GPU that a node copies from another gets no pods, both nodes are told, and it gets them again when the copy is gone", func(t *testing.T) {
		s, hostile := newSite(t, lab, "victim", 1, "80Gi"), newSite(t, lab, "hostile", 1, "80Gi")
		hostile.edit = func(g *berthtesting.GPUNode) { g.Status.Devices[0].UUID = s.gpu(0) }
		hostile.Report(t, hostile.report())
		for _, nodes := range [][2]*site{{s, hostile}, {hostile, s}} {
			waitNodeEvent(t, lab, nodes[0].node, "GPUReportedTwice", s.gpu(0)+") by "+nodes[0].node.Name+" and "+nodes[1].node.Name)
		}
		pod := harness.Create(t, lab, s.pod("waits", "60Gi"))
		o.waitReason(pod, gpustate.ReasonContestedDevices)
		hostile.edit = nil
		hostile.Report(t, hostile.report())
		lab.WaitBound(t, pod)
	})
}

// waitNodeEvent waits for an Event on a node with a reason, and a part of its message.
func waitNodeEvent(t *testing.T, lab *harness.Lab, node *corev1.Node, reason, part string) {
	t.Helper()
	harness.Eventually(t, "node "+node.Name+" has an Event "+reason, func(ctx context.Context) (bool, string) {
		var list eventsv1.EventList
		if err := lab.Client.List(ctx, &list); err != nil {
			return false, err.Error()
		}
		var seen []string
		for i := range list.Items {
			e := &list.Items[i]
			if e.Regarding.Kind != "Node" || e.Regarding.Name != node.Name {
				continue
			}
			seen = append(seen, e.Reason+": "+e.Note)
			if e.Reason == reason && strings.Contains(e.Note, part) {
				return true, ""
			}
		}
		return false, strings.Join(seen, "; ")
	})
}
