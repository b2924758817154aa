// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
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
}
