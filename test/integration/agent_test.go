// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestWhatAgentsMeasure is placement by what the real agents measure on simulated GPUs, from the driver to the pod.
// docs/performance.md quotes the times that it logs; they include the second that an agent waits between reports.
func TestWhatAgentsMeasure(t *testing.T) {
	lab := harness.Start(t, "--nodes", "1", "--gpus", "1", "--gpu-model", "H100-80", "--no-controller")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0"}}

	t.Run("a foreign process is seen and its GPU refused; when it ends, the waiting pod is bound", func(t *testing.T) {
		begin := time.Now()
		lab.Annotate(t, node, gpusim.AnnotationForeignMemory, "0=60Gi")
		harness.Eventually(t, "the process is reported", func(ctx context.Context) (bool, string) {
			gn := &berthv1alpha1.GPUNode{}
			if err := lab.Client.Get(ctx, client.ObjectKeyFromObject(node), gn); err != nil {
				return false, err.Error()
			}
			used := gn.Status.Devices[0].Memory.Used
			return used.String() == "60Gi", used.String() + " used"
		})
		t.Logf("a foreign process is reported after %s", time.Since(begin))
		pod := harness.Create(t, lab, berthtesting.MakePod("waits").Memory("30Gi").Obj())
		t.Logf("the pod does not fit: %s", lab.WaitUnschedulable(t, pod))
		if p := lab.Pod(t, pod); p.Spec.NodeName != "" {
			t.Fatal("the pod was bound beside the foreign process")
		}
		begin = time.Now()
		lab.Annotate(t, node, gpusim.AnnotationForeignMemory, "")
		lab.WaitBound(t, pod)
		t.Logf("the waiting pod is bound %s after the process ended", time.Since(begin))
		lab.Delete(t, pod, 0)
		lab.WaitGone(t, pod)
	})

	t.Run("a pod that computes all the time is never evicted for being idle, one that stops is", func(t *testing.T) {
		const idleAfter = 5 * time.Second
		busy := berthtesting.MakePod("busy").Memory("60Gi").Annotation("idle-after", idleAfter.String()).Obj()
		busy.Spec.TerminationGracePeriodSeconds = new(int64)
		harness.Create(t, lab, busy)
		busy = lab.WaitReady(t, busy)
		newcomer := harness.Create(t, lab, berthtesting.MakePod("newcomer").Memory("60Gi").Obj())
		lab.WaitUnschedulable(t, newcomer)
		// Twice as long as would do if it were idle.
		for end := time.Now().Add(2 * idleAfter); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if p := lab.Pod(t, busy); p.DeletionTimestamp != nil {
				t.Fatal("the busy pod was evicted")
			}
		}
		begin := time.Now()
		lab.Annotate(t, busy, gpusim.AnnotationGPUActive, "false")
		lab.WaitGone(t, busy)
		if took := time.Since(begin); took < idleAfter {
			t.Errorf("evicted after %s of idleness, want at least %s", took, idleAfter)
		} else {
			t.Logf("evicted %s after it stopped computing", took)
		}
		lab.WaitBound(t, newcomer)
	})
}
