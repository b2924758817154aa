// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-dev/berth/test/integration/harness"
)

// between lets a pod be placed on two sites, and on no other node.
func between(a, b *site) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeSelector = nil
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: "site", Operator: corev1.NodeSelectorOpIn, Values: []string{a.node.Labels["site"], b.node.Labels["site"]},
				}},
			}}},
		}}
	}
}

// cpu makes a pod ask for cores.
func cpu(cores string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cores)}
	}
}

// hostPort makes a pod take a port of its node.
func hostPort(port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: port, HostPort: port}}
	}
}

// TestClaimsFollowTheCluster: a preemptor waits on one node for its victim, which has ten minutes of grace. Whatever
// makes that node impossible meanwhile sends it to the other one within seconds, with the true reason.
func TestClaimsFollowTheCluster(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	priorityClass(t, lab, "low", 10)
	priorityClass(t, lab, "middle", 100)
	priorityClass(t, lab, "high", 1000)
	for i, tc := range []struct {
		name   string
		change func(*testing.T, *site)
		why    string
	}{
		{"cordon", func(t *testing.T, s *site) { s.patchNode(`{"spec":{"unschedulable":true}}`) }, "unschedulable"},
		{"taint", func(t *testing.T, s *site) {
			s.patchNode(`{"spec":{"taints":[{"key":"maintenance","effect":"NoSchedule"}]}}`)
		}, "taint"},
		{"cpu", func(t *testing.T, s *site) { s.bindForeign(t, "cpu-hog", cpu("50")) }, "Insufficient cpu"},
		{"port", func(t *testing.T, s *site) { s.bindForeign(t, "port-hog", hostPort(8000)) }, "free ports"},
		{"affinity", func(t *testing.T, s *site) { s.patchNode(`{"metadata":{"labels":{"site":"none"}}}`) }, "affinity"},
		{"gone", func(t *testing.T, s *site) {
			if err := s.Client.Delete(t.Context(), s.node); err != nil {
				t.Fatal(err)
			}
		}, "gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := newSite(t, lab, tc.name+"-a", 1, "80Gi"), newSite(t, lab, tc.name+"-b", 1, "80Gi")
			// The victim on a is the cheaper one, by priority.
			first, fa := a.place(a.pod(fmt.Sprintf("first-%d", i), "70Gi", priority("low"), grace(600)))
			a.holdBooked(first, fa)
			second, sa := b.place(b.pod(fmt.Sprintf("second-%d", i), "70Gi", priority("middle"), grace(1)))
			b.holdBooked(second, sa)
			preemptor := harness.Create(t, lab, a.pod(fmt.Sprintf("preemptor-%d", i), "60Gi", priority("high"), between(a, b), cpu("20"), hostPort(8000)))
			a.waitTerminating(first)
			harness.Eventually(t, "the preemptor is nominated", func(ctx context.Context) (bool, string) {
				var p corev1.Pod
				if err := lab.Client.Get(ctx, client.ObjectKeyFromObject(preemptor), &p); err != nil {
					return false, err.Error()
				}
				return p.Status.NominatedNodeName == a.node.Name, p.Status.NominatedNodeName
			})
			changed := time.Now()
			tc.change(t, a)
			lab.WaitGone(t, second)
			b.freeMemoryOf(second.UID)
			bound, _ := lab.WaitBound(t, preemptor)
			t.Logf("bound to %s %s after the change", bound.Spec.NodeName, time.Since(changed).Round(time.Millisecond))
			if bound.Spec.NodeName != b.node.Name {
				t.Errorf("bound to %s, want %s", bound.Spec.NodeName, b.node.Name)
			}
			if e := a.events(preemptor, "GPUMemoryClaimDropped"); len(e) != 1 || !strings.Contains(e[0], tc.why) {
				t.Errorf("events %q, want one that says %q", e, tc.why)
			}
			if e := a.events(preemptor, "GPUMemoryNotReturned"); len(e) > 0 {
				t.Errorf("a reason that is not true was told: %q", e)
			}
		})
	}
}

// TestNobodyWaitsForAnHour: a pod that terminates with an hour of grace keeps nobody waiting who can evict elsewhere,
// nor anybody of equal priority from what is free beside it.
func TestNobodyWaitsForAnHour(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	priorityClass(t, lab, "low", 10)
	priorityClass(t, lab, "high", 1000)
	a, b := newSite(t, lab, "hour-a", 1, "80Gi"), newSite(t, lab, "hour-b", 1, "80Gi")
	leaving, la := a.place(a.pod("leaving", "50Gi", priority("low"), grace(3600)))
	a.holdBooked(leaving, la)
	other, oa := b.place(b.pod("other", "70Gi", priority("low"), grace(1)))
	b.holdBooked(other, oa)
	if err := lab.Client.Delete(t.Context(), leaving); err != nil {
		t.Fatal(err)
	}
	a.waitTerminating(leaving)
	waits := harness.Create(t, lab, a.pod("waits", "60Gi", priority("low")))
	lab.WaitUnschedulable(t, waits)
	_, _ = a.place(a.pod("beside", "20Gi", priority("low")))
	urgent := harness.Create(t, lab, a.pod("urgent", "60Gi", priority("high"), between(a, b)))
	lab.WaitGone(t, other)
	b.freeMemoryOf(other.UID)
	if bound, _ := lab.WaitBound(t, urgent); bound.Spec.NodeName != b.node.Name {
		t.Errorf("bound to %s, want %s", bound.Spec.NodeName, b.node.Name)
	}
	if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(leaving), &corev1.Pod{}); err != nil {
		t.Errorf("the pod with an hour of grace is gone, so nothing was shown: %v", err)
	}
}

// patchNode changes the site's node.
func (s *site) patchNode(patch string) {
	s.t.Helper()
	if err := s.Client.Patch(s.t.Context(), s.node, client.RawPatch(types.StrategicMergePatchType, []byte(patch))); err != nil {
		s.t.Fatal(err)
	}
}

// bindForeign binds a pod of another scheduler to the site's node.
func (s *site) bindForeign(t *testing.T, name string, edit func(*corev1.Pod)) {
	t.Helper()
	p := s.pod(name, "1Gi")
	p.Annotations, p.Spec.SchedulerName = nil, "default-scheduler"
	edit(p)
	pod := harness.Create(t, s.Lab, p)
	binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: s.node.Name}}
	if err := s.Client.SubResource("binding").Create(t.Context(), pod, binding); err != nil {
		t.Fatal(err)
	}
}
