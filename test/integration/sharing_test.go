// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestGPUSharing is what docs/pod-api.md says of berth.dev/gpu-sharing, with pods that a Deployment makes.
func TestGPUSharing(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	o := &operator{t: t, lab: lab}

	t.Run("replicas keep apart", func(t *testing.T) {
		s := newSite(t, lab, "apart", 2, "80Gi")
		pods := o.replicas(t, s, 3)
		var bound []string
		var waits *corev1.Pod
		harness.Eventually(t, "two of three replicas are bound", func(ctx context.Context) (bool, string) {
			bound, waits = nil, nil
			list := pods(ctx)
			for i := range list {
				if a, err := gpustate.BookingOf(&list[i]); err == nil && a != nil {
					bound = append(bound, a.Devices[0].UUID)
				} else {
					waits = &list[i]
				}
			}
			return len(bound) == 2 && waits != nil, fmt.Sprint(bound)
		})
		if bound[0] == bound[1] {
			t.Errorf("both replicas are on %s", bound[0])
		}
		o.waitReason(waits, gpustate.ReasonSameWorkload)
		o.mustBerth(t, "a replica of the same workload is on the GPU", "explain", "pod/"+waits.Name, "-n", waits.Namespace, "-o", "wide")
		_, other := s.place(s.pod("other", "10Gi", grace(0)))
		if got := other.Devices[0].UUID; got != bound[0] && got != bound[1] {
			t.Errorf("another workload is on %s", got)
		}
		refused := lab.Client.Patch(t.Context(), waits, client.RawPatch("application/merge-patch+json",
			[]byte(`{"metadata":{"annotations":{"`+berthv1alpha1.AnnotationGPUSharing+`":"any"}}}`)))
		if refused == nil || !strings.Contains(refused.Error(), "does not change after it was created") {
			t.Errorf("a change of the annotation: %v", refused)
		}
	})

	t.Run("a pod has a GPU for itself, and is told what it asked for", func(t *testing.T) {
		s := newSite(t, lab, "alone", 1, "80Gi")
		alone := s.pod("alone", "40Gi", grace(0), func(p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationGPUSharing] = "none" })
		pod, booked := s.place(alone)
		headroom := alloc.MiB(256)
		if got, want := booked.Devices[0].Memory, alloc.GiB(80).Minus(headroom); got != want {
			t.Errorf("booked %s, want %s", got, want)
		}
		if got := pod.Annotations[berthv1alpha1.AnnotationGPUMemoryUtilization]; got >= "0.51" {
			t.Errorf("told a share of %s", got)
		}
		late := harness.Create(t, lab, s.pod("late", "1Gi", grace(0)))
		o.waitReason(late, gpustate.ReasonInsufficientMemory)
		lab.Delete(t, pod, 0)
		lab.WaitBound(t, late)
		o.waitReason(harness.Create(t, lab, s.pod("second", "40Gi", grace(0), func(p *corev1.Pod) {
			p.Annotations[berthv1alpha1.AnnotationGPUSharing] = "none"
		})), gpustate.ReasonNotAlone)
	})
}

// replicas makes a Deployment on a site whose pods keep apart, and returns what lists them.
func (o *operator) replicas(t *testing.T, s *site, count int32) func(context.Context) []corev1.Pod {
	t.Helper()
	template := s.pod("replica", "10Gi", grace(0))
	template.Labels = map[string]string{"app": s.node.Name}
	template.Annotations[berthv1alpha1.AnnotationGPUSharing] = string(berthv1alpha1.ShareOtherWorkloads)
	harness.Create(t, o.lab, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: template.Namespace, Name: s.node.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &count, Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations}, Spec: template.Spec},
		},
	})
	t.Cleanup(func() {
		_ = o.lab.Client.Delete(context.WithoutCancel(t.Context()), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: template.Namespace, Name: s.node.Name}})
	})
	return func(ctx context.Context) []corev1.Pod {
		var list corev1.PodList
		_ = o.lab.Client.List(ctx, &list, client.MatchingLabels(template.Labels)) // an empty list is none yet
		return list.Items
	}
}
