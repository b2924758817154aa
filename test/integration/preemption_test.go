// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestPreemption is about who is evicted, and when the preemptor is bound, on a real control plane.
func TestPreemption(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	priorityClass(t, lab, "low", 10)
	priorityClass(t, lab, "middle", 100)
	priorityClass(t, lab, "high", 1000)
	low, high := priority("low"), priority("high")

	t.Run("one big victim is evicted rather than several small ones, and nobody while a GPU is free", func(t *testing.T) {
		s := newSite(t, lab, "biggest", 4, "80Gi")
		big, a := s.place(s.pod("big", "70Gi", low, grace(1)))
		s.holdBooked(big, a)
		var small []*corev1.Pod
		for i := range 8 {
			p, a := s.place(s.pod(fmt.Sprintf("small-%d", i), "19Gi", low, grace(1)))
			s.holdBooked(p, a)
			small = append(small, p)
		}
		first, _ := s.place(s.pod("first", "65Gi", high)) // one GPU is still free
		preemptor := harness.Create(t, lab, s.pod("second", "65Gi", high))
		lab.WaitGone(t, big)
		s.remainsPending(preemptor, time.Second)
		s.freeMemoryOf(big.UID)
		freed := time.Now()
		_, got := lab.WaitBound(t, preemptor)
		t.Logf("bound %d ms after the report", time.Since(freed).Milliseconds())
		if !slices.Equal(uuids(got), uuids(a)) {
			t.Errorf("the preemptor is on %v, want the victim's %v", uuids(got), uuids(a))
		}
		for _, p := range append(small, first) {
			if !s.exists(p) {
				t.Errorf("%s was evicted too", p.Name)
			}
		}
		if e := s.events(preemptor, "EvictingForGPUMemory"); len(e) != 1 || !strings.Contains(e[0], "default/big") {
			t.Errorf("events on the preemptor: %q", e)
		}
	})

	t.Run("memory that lingers is waited for, over a restart of the scheduler, without a further eviction", func(t *testing.T) {
		s := newSite(t, lab, "lingers", 4, "80Gi")
		var pods []*corev1.Pod
		for i := range 4 {
			p, a := s.place(s.pod(fmt.Sprintf("lingers-%d", i), "70Gi", low, grace(1)))
			s.holdBooked(p, a)
			pods = append(pods, p)
		}
		preemptor := harness.Create(t, lab, s.pod("preemptor", "120Gi", counts("2"), high))
		var gone []*corev1.Pod
		harness.Eventually(t, "two are gone", func(ctx context.Context) (bool, string) {
			gone = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool {
				return !apierrors.IsNotFound(s.Client.Get(ctx, client.ObjectKeyFromObject(p), &corev1.Pod{}))
			})
			return len(gone) >= 2, fmt.Sprintf("%d are", len(gone))
		})
		s.freeMemoryOf(gone[0].UID)
		if err := syscall.Kill(lab.Child(t, "scheduler"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.remainsPending(preemptor, 9*time.Second) // until well after the next scheduler has the lease
		s.freeMemoryOf(gone[1].UID)
		freed := time.Now()
		lab.WaitBound(t, preemptor)
		t.Logf("bound %d ms after the report", time.Since(freed).Milliseconds())
		left := 0
		for _, p := range pods {
			if s.exists(p) {
				left++
			}
		}
		if left != 2 {
			t.Errorf("%d pods are left, want 2: somebody else was evicted for the same need", left)
		}
		noNominations(t, lab)
	})

	t.Run("a pod that can never fit evicts nobody and says so", func(t *testing.T) {
		s := newSite(t, lab, "never", 1, "80Gi")
		victim, _ := s.place(s.pod("victim", "70Gi", low))
		pod := harness.Create(t, lab, s.pod("pod", "90Gi", high))
		if msg := lab.WaitUnschedulable(t, pod); !strings.Contains(msg, "could ever hold") || !strings.Contains(msg, "79.8Gi") {
			t.Errorf("message %q does not say what the largest is that could fit", msg)
		}
		if !s.exists(victim) {
			t.Error("the victim was evicted for nothing")
		}
	})

	t.Run("foreign memory cannot be evicted", func(t *testing.T) {
		s := newSite(t, lab, "foreign", 1, "80Gi")
		s.hold(0, "", "50Gi")
		victim, _ := s.place(s.pod("victim", "20Gi", low))
		lab.WaitUnschedulable(t, harness.Create(t, lab, s.pod("pod", "60Gi", high)))
		if !s.exists(victim) {
			t.Error("the victim was evicted for nothing")
		}
	})

	t.Run("preemptionPolicy Never, min-runtime, disruption budgets and higher priorities are respected", func(t *testing.T) {
		s := newSite(t, lab, "respected", 4, "80Gi")
		young, _ := s.place(s.pod("young", "70Gi", low, annotated(berthv1alpha1.AnnotationMinRuntime, "1h")))
		above, _ := s.place(s.pod("above", "70Gi", high))
		budgeted, _ := s.place(s.pod("budgeted", "70Gi", low, labelled("app", "budgeted")))
		plain, _ := s.place(s.pod("plain", "70Gi", priority("middle"), grace(1)))
		one := intstr.FromInt32(1)
		harness.Create(t, lab, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: "budget", Namespace: "default"},
			Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "budgeted"}}},
		})
		lab.WaitReady(t, budgeted)
		time.Sleep(2 * time.Second) // the disruption controller counts
		never := corev1.PreemptNever
		polite := harness.Create(t, lab, s.pod("polite", "60Gi", func(p *corev1.Pod) {
			p.Spec.PriorityClassName, p.Spec.PreemptionPolicy = "berth-batch", &never
		}))
		lab.WaitUnschedulable(t, polite)
		if !s.exists(plain) {
			t.Error("a pod with preemptionPolicy Never evicted one")
		}
		_, _ = s.place(s.pod("preemptor", "60Gi", high))
		for _, p := range []*corev1.Pod{young, above, budgeted} {
			if !s.exists(p) {
				t.Errorf("%s was evicted", p.Name)
			}
		}
		if s.exists(plain) {
			t.Error("the only pod that may be evicted was not")
		}
	})

	t.Run("an idle pod gives way to one of its own priority at the moment that it has been idle long enough, an active one never", func(t *testing.T) {
		s := newSite(t, lab, "idle", 3, "80Gi")
		idleAfter := annotated(berthv1alpha1.AnnotationIdleAfter, "4s")
		idle, ia := s.place(s.pod("idle", "70Gi", low, idleAfter, grace(1)))
		busy, ba := s.place(s.pod("busy", "70Gi", low, idleAfter, grace(1)))
		unmeasured, _ := s.place(s.pod("unmeasured", "70Gi", low, idleAfter, grace(1)))
		s.holdBooked(busy, ba)
		s.holdBooked(idle, ia)
		pod := harness.Create(t, lab, s.pod("newcomer", "60Gi", low))
		lab.WaitUnschedulable(t, pod)
		// It falls idle while the newcomer waits already.
		delete(s.held, slices.Index([]string{s.gpu(0), s.gpu(1), s.gpu(2)}, ia.Devices[0].UUID))
		idleSince := time.Now()
		s.edit = func(g *berthtesting.GPUNode) {
			if s.held[9] == nil { // still there
				g.At(ia.Devices[0].UUID).Idle(idle.UID, "70Gi", idleSince)
			}
		}
		s.Report(t, s.report())
		lab.WaitGone(t, idle)
		if took := time.Since(idleSince); took < 4*time.Second {
			t.Errorf("evicted after %s of idleness, before idle-after", took)
		}
		s.held[9] = map[types.UID]string{}
		s.Report(t, s.report())
		lab.WaitBound(t, pod)
		if !s.exists(busy) || !s.exists(unmeasured) {
			t.Error("a busy pod, or one whose activity is not measured, was evicted")
		}
	})

	t.Run("a victim that its ReplicaSet makes again does not take the place back", func(t *testing.T) {
		s := newSite(t, lab, "again", 1, "80Gi")
		d := s.deployment("workers", s.pod("template", "70Gi", low, grace(1)))
		victim := s.replica(d, nil)
		_, a := lab.WaitBound(t, victim)
		s.holdBooked(victim, a)
		preemptor := harness.Create(t, lab, s.pod("preemptor", "60Gi", high))
		lab.WaitGone(t, victim)
		again := s.replica(d, victim)
		lab.WaitUnschedulable(t, again)
		s.freeMemoryOf(victim.UID)
		lab.WaitBound(t, preemptor)
		s.remainsPending(again, time.Second)
	})

	t.Run("two idle workloads of equal priority do not evict each other in turns", func(t *testing.T) {
		s := newSite(t, lab, "turns", 1, "80Gi")
		template := s.pod("template", "70Gi", low, grace(1), annotated(berthv1alpha1.AnnotationIdleAfter, "2s"))
		one := s.deployment("one", template)
		first := s.replica(one, nil)
		lab.WaitBound(t, first)
		s.idle(first, 0)
		two := s.deployment("two", template)
		second := s.replica(two, nil)
		lab.WaitGone(t, first)
		s.edit = nil
		s.Report(t, s.report())
		lab.WaitBound(t, second)
		s.idle(second, 0)
		again := s.replica(one, first)
		lab.WaitUnschedulable(t, again)
		s.remainsPending(again, 4*time.Second)
		if !s.exists(second) {
			t.Error("the first workload evicted the second in its turn")
		}
	})

	t.Run("a surge pod of a rolling update evicts nobody and names the remedy", func(t *testing.T) {
		s := newSite(t, lab, "surge", 8, "80Gi")
		template := s.pod("template", "60Gi")
		replicas, surge, unavailable := int32(8), intstr.FromInt32(1), intstr.FromInt32(0)
		d := harness.Create(t, lab, &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
			Spec: appsv1.DeploymentSpec{
				Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
				Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}, Annotations: template.Annotations}, Spec: template.Spec,
				},
			},
		})
		s.waitReplicas(d, 8)
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"template":{"metadata":{"labels":{"revision":"2"}}}}}`))
		if err := lab.Client.Patch(t.Context(), d, patch); err != nil {
			t.Fatal(err)
		}
		var surgePod *corev1.Pod
		harness.Eventually(t, "the surge pod is there", s.podWithLabel("revision", "2", &surgePod))
		if msg := lab.WaitUnschedulable(t, surgePod); !strings.Contains(msg, "maxSurge: 0") {
			t.Errorf("message %q does not name the remedy", msg)
		}
		s.waitReplicas(d, 8)
		if err := lab.Client.Delete(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	})
	checkBooks(t, lab)
}

// deployment makes a Deployment of one replica, with the name in its pods' label "app".
func (s *site) deployment(name string, template *corev1.Pod) *appsv1.Deployment {
	s.t.Helper()
	one := int32(1)
	labels := map[string]string{"app": name}
	d := harness.Create(s.t, s.Lab, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: template.Annotations}, Spec: template.Spec,
			},
		},
	})
	s.t.Cleanup(func() {
		background := metav1.DeletePropagationBackground
		_ = s.Client.Delete(context.WithoutCancel(s.t.Context()), d, &client.DeleteOptions{PropagationPolicy: &background})
	})
	return d
}

// replica waits for the pod of a Deployment of one replica, other than the last one.
func (s *site) replica(d *appsv1.Deployment, last *corev1.Pod) *corev1.Pod {
	s.t.Helper()
	var pod *corev1.Pod
	harness.Eventually(s.t, "there is a pod of "+d.Name, func(ctx context.Context) (bool, string) {
		var list corev1.PodList
		if err := s.Client.List(ctx, &list, client.InNamespace("default"), client.MatchingLabels(d.Spec.Selector.MatchLabels)); err != nil {
			return false, err.Error()
		}
		for i := range list.Items {
			if p := &list.Items[i]; p.DeletionTimestamp == nil && (last == nil || p.UID != last.UID) {
				pod = p
				return true, ""
			}
		}
		return false, "there is none"
	})
	return pod
}

// idle reports that a pod holds 70Gi on a device and computes, and then that it no longer does: idle is only who was
// active before.
func (s *site) idle(pod *corev1.Pod, device int) {
	s.t.Helper()
	s.hold(device, pod.UID, "70Gi")
	delete(s.held, device)
	since := time.Now()
	s.edit = func(g *berthtesting.GPUNode) { g.At(s.gpu(device)).Idle(pod.UID, "70Gi", since) }
	s.Report(s.t, s.report())
}
