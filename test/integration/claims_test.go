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
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	nothing := func(*testing.T, *site, *site) func(*corev1.Pod) { return func(*corev1.Pod) {} }
	for i, tc := range []struct {
		name   string
		needs  func(t *testing.T, a, b *site) func(*corev1.Pod) // beside memory
		change func(*testing.T, *site)
		why    string
	}{
		{"cordon", nothing, func(t *testing.T, s *site) { s.patchNode(`{"spec":{"unschedulable":true}}`) }, "unschedulable"},
		{"taint", nothing, func(t *testing.T, s *site) {
			s.patchNode(`{"spec":{"taints":[{"key":"maintenance","effect":"NoSchedule"}]}}`)
		}, "taint"},
		{"cpu", nothing, func(t *testing.T, s *site) { s.bindForeign(t, "cpu-hog", cpu("50")) }, "Insufficient cpu"},
		{"port", nothing, func(t *testing.T, s *site) { s.bindForeign(t, "port-hog", hostPort(8000)) }, "free ports"},
		{"affinity", nothing, func(t *testing.T, s *site) { s.patchNode(`{"metadata":{"labels":{"site":"none"}}}`) }, "affinity"},
		{"gone", nothing, func(t *testing.T, s *site) {
			if err := s.Client.Delete(t.Context(), s.node); err != nil {
				t.Fatal(err)
			}
		}, "gone"},
		{"neighbour", cacheInZone, func(t *testing.T, s *site) {
			neighbour := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cache-" + s.node.Name + "-zone"}}
			if err := s.Client.Delete(t.Context(), neighbour, client.GracePeriodSeconds(0)); err != nil {
				t.Fatal(err)
			}
		}, "pod affinity"},
		{"volume", localVolume, func(t *testing.T, s *site) {
			taken := []byte(`{"spec":{"claimRef":{"namespace":"default","name":"another"}}}`)
			pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: s.node.Name}}
			if err := s.Client.Patch(t.Context(), pv, client.RawPatch(types.StrategicMergePatchType, taken)); err != nil {
				t.Fatal(err)
			}
		}, "persistent volumes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := newSite(t, lab, tc.name+"-a", 1, "80Gi"), newSite(t, lab, tc.name+"-b", 1, "80Gi")
			// The victim on a is the cheaper one, by priority.
			first, fa := a.place(a.pod(fmt.Sprintf("first-%d", i), "70Gi", priority("low"), grace(600)))
			a.holdBooked(first, fa)
			second, sa := b.place(b.pod(fmt.Sprintf("second-%d", i), "70Gi", priority("middle"), grace(1)))
			b.holdBooked(second, sa)
			preemptor := harness.Create(t, lab, a.pod(fmt.Sprintf("preemptor-%d", i), "60Gi", priority("high"), between(a, b), cpu("20"), hostPort(8000), tc.needs(t, a, b)))
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
			t.Logf("the other node is chosen %s after the change", time.Since(changed).Round(time.Millisecond))
			b.freeMemoryOf(second.UID)
			if tc.name != "volume" { // nobody binds volumes in a lab
				if bound, _ := lab.WaitBound(t, preemptor); bound.Spec.NodeName != b.node.Name {
					t.Errorf("bound to %s, want %s", bound.Spec.NodeName, b.node.Name)
				}
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

// cacheInZone puts two sites into zones of their own, each with a cache, a's on a third node, which a pod has to be near to.
func cacheInZone(t *testing.T, a, b *site) func(*corev1.Pod) {
	near := newSite(t, a.Lab, a.node.Name+"-zone", 1, "80Gi")
	for _, s := range []*site{a, b, near} {
		zone := a.node.Name
		if s == b {
			zone = b.node.Name
		}
		s.patchNode(fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, corev1.LabelTopologyZone, zone))
	}
	cache := map[string]string{"app": "cache-of-" + a.node.Name}
	near.bindForeign(t, "cache", func(p *corev1.Pod) { p.Labels = cache })
	b.bindForeign(t, "cache", func(p *corev1.Pod) { p.Labels = cache })
	return func(p *corev1.Pod) {
		p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelTopologyZone, LabelSelector: &metav1.LabelSelector{MatchLabels: cache},
		}}}
	}
}

// localVolume makes a volume on each of two sites, and lets a pod claim one of them.
func localVolume(t *testing.T, a, b *site) func(*corev1.Pod) {
	class, later := "local-"+a.node.Name, storagev1.VolumeBindingWaitForFirstConsumer
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	once := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	objects := []client.Object{
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &later},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: class}, Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: once, Resources: corev1.VolumeResourceRequirements{Requests: size},
		}},
	}
	for _, s := range []*site{a, b} {
		objects = append(objects, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: s.node.Name}, Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: once, Capacity: size,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/volume"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "site", Operator: corev1.NodeSelectorOpIn, Values: []string{s.node.Name}}},
			}}}},
		}})
	}
	for _, o := range objects {
		if err := a.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if pv, ok := o.(*corev1.PersistentVolume); ok { // as the controller of volumes says
			pv.Status.Phase = corev1.VolumeAvailable
			if err := a.Client.Status().Update(t.Context(), pv); err != nil {
				t.Fatal(err)
			}
		}
	}
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "volume", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: class},
		}})
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
