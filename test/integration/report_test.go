// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/controller/podcheck"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestWhatTheControllerMakesOfReports is about what agents, which see no pods, leave to the controller: each works by the
// roles and policies that are shipped.
func TestWhatTheControllerMakesOfReports(t *testing.T) {
	lab := harness.Start(t, "--nodes", "1", "--gpus", "1", "--gpu-model", "H100-80")
	pod := berthtesting.MakePod("greedy").Memory("10Gi").Obj()
	pod.Annotations[gpusim.AnnotationGPUMemory] = "50Gi"
	injected(pod)
	pod = harness.Create(t, lab, pod)
	pod = lab.WaitReady(t, pod)

	harness.Eventually(t, "the owner of a pod that holds too much is told", func(ctx context.Context) (bool, string) {
		events, err := lab.Clientset.EventsV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err.Error()
		}
		var told []string
		for _, e := range events.Items {
			if e.Regarding.UID == pod.UID && e.Type == corev1.EventTypeWarning {
				told = append(told, e.Reason+" by "+e.ReportingController+": "+e.Note)
			}
		}
		return slices.ContainsFunc(told, func(s string) bool {
			return strings.HasPrefix(s, podcheck.EventMemoryOveruse+" by berth-controller: The pod's processes hold 50Gi on GPU ")
		}), strings.Join(told, "; ")
	})
	harness.Eventually(t, "the form that works is in the report, which stays", func(ctx context.Context) (bool, string) {
		gn := &berthv1alpha1.GPUNode{}
		if err := lab.Client.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, gn); err != nil {
			return false, err.Error()
		}
		h := gn.Status.HandOff
		if h == nil || len(h.Shown) != 1 || len(gn.Status.Devices) != 1 {
			return false, "not there"
		}
		f := h.Shown[0]
		return f.Works && f.Form == berthv1alpha1.DeviceFormCDI && f.Handler == "nvidia", f.Message
	})
}
