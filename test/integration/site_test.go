// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// site is one node of a bare lab that no other test's pods can be placed on, with the report that a test makes of it.
type site struct {
	*harness.Lab
	t    *testing.T
	node *corev1.Node
	// total and count are of its GPUs; held is what processes are reported to hold: device → pod → amount.
	total string
	count int
	held  map[int]map[types.UID]string
	edit  func(*berthtesting.GPUNode)
}

// newSite adds a node with GPUs to a lab.
func newSite(t *testing.T, lab *harness.Lab, name string, count int, total string) *site {
	t.Helper()
	s := &site{Lab: lab, t: t, node: berthtesting.MakeNode(name), total: total, count: count, held: map[int]map[types.UID]string{}}
	if s.node.Labels == nil {
		s.node.Labels = map[string]string{}
	}
	s.node.Labels["site"] = name
	lab.AddNode(t, s.node, s.report())
	t.Cleanup(func() {
		zero := int64(0)
		ctx := context.WithoutCancel(t.Context())
		background := metav1.DeletePropagationBackground
		_ = lab.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace("default"), &client.DeleteAllOfOptions{
			DeleteOptions: client.DeleteOptions{GracePeriodSeconds: &zero, PropagationPolicy: &background},
		})
		_ = lab.Client.Delete(ctx, s.node)
		_ = lab.Client.Delete(ctx, &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: name}})
	})
	return s
}

func (s *site) gpu(i int) string { return fmt.Sprintf("GPU-%s-%d", s.node.Name, i) }

// report builds the node's report from what is held.
func (s *site) report() *berthv1alpha1.GPUNode {
	g := berthtesting.MakeGPUNode(s.node.Name)
	for i := range s.count {
		g.GPU(s.gpu(i), s.total).Model("NVIDIA H100 80GB HBM3")
		for pod, amount := range s.held[i] {
			g.Active(pod, amount)
		}
	}
	if s.edit != nil {
		s.edit(g)
	}
	gn := g.Obj()
	for i := range gn.Status.Devices {
		gn.Status.Devices[i].Index = int32(i)
	}
	return gn
}

// hold reports that a pod ("" = nobody known) holds memory on a device; an amount of "" = it no longer does.
func (s *site) hold(device int, pod types.UID, amount string) {
	s.t.Helper()
	if s.held[device] == nil {
		s.held[device] = map[types.UID]string{}
	}
	s.held[device][pod] = amount
	if amount == "" {
		delete(s.held[device], pod)
	}
	s.Report(s.t, s.report())
}

// holdBooked reports that a bound pod holds what it booked.
func (s *site) holdBooked(pod *corev1.Pod, a *gpustate.Allocation) {
	s.t.Helper()
	for _, d := range a.Devices {
		for i := range s.count {
			if s.gpu(i) == d.UUID {
				if s.held[i] == nil {
					s.held[i] = map[types.UID]string{}
				}
				s.held[i][pod.UID] = d.Memory.String()
			}
		}
	}
	s.Report(s.t, s.report())
}

// pod returns a pod that can only be placed on the site, and has a name that no other site's has: KWOK deletes by name,
// and may do so once more when the pod of an earlier site is gone already.
func (s *site) pod(name, memory string, edits ...func(*corev1.Pod)) *corev1.Pod {
	p := berthtesting.MakePod(name + "-" + s.node.Name).Memory(memory).Obj()
	p.Spec.NodeSelector = map[string]string{"site": s.node.Name}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func counts(v string) func(*corev1.Pod) { return annotated(berthv1alpha1.AnnotationGPUCount, v) }
func engine(v string) func(*corev1.Pod) { return annotated(berthv1alpha1.AnnotationRuntime, v) }
func labelled(k, v string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{k: v} }
}

func priority(class string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.PriorityClassName = class }
}

func grace(seconds int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = &seconds }
}

// place creates a pod and waits until it is bound.
func (s *site) place(pod *corev1.Pod) (*corev1.Pod, *gpustate.Allocation) {
	s.t.Helper()
	harness.Create(s.t, s.Lab, pod)
	return s.WaitBound(s.t, pod)
}

// remainsPending fails the test if the pod is bound within a while.
func (s *site) remainsPending(pod *corev1.Pod, d time.Duration) {
	s.t.Helper()
	deadline := time.Now().Add(d)
	for time.Now().Before(deadline) {
		if p := s.Pod(s.t, pod); p.Spec.NodeName != "" {
			s.t.Fatalf("pod %s was bound: %s", pod.Name, p.Annotations[berthv1alpha1.AnnotationAllocation])
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// exists says whether the pod is there and not being deleted.
func (s *site) exists(pod *corev1.Pod) bool {
	p := &corev1.Pod{}
	err := s.Client.Get(s.t.Context(), client.ObjectKeyFromObject(pod), p)
	return err == nil && p.DeletionTimestamp == nil
}

// uuids returns the devices of an allocation.
func uuids(a *gpustate.Allocation) []string {
	var out []string
	for _, d := range a.Devices {
		out = append(out, d.UUID)
	}
	slices.Sort(out)
	return out
}

// checkBooks fails the test if any device of the lab is booked beyond its memory, or a bound pod has no allocation of
// devices of its node. It returns the number of bound pods per device.
func checkBooks(t *testing.T, lab *harness.Lab) map[string]int {
	t.Helper()
	var pods corev1.PodList
	var nodes berthv1alpha1.GPUNodeList
	if err := lab.Client.List(t.Context(), &pods); err != nil {
		t.Fatal(err)
	}
	if err := lab.Client.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	capacity := map[string]alloc.Bytes{}
	for _, gn := range nodes.Items {
		for _, d := range gn.Status.Devices {
			capacity[gn.Name+"/"+d.UUID] = alloc.BytesOfInt64(d.Memory.Total.Value()).Minus(alloc.MiB(256))
		}
	}
	booked, perDevice := map[string]alloc.Bytes{}, map[string]int{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName == "" || gpustate.HasEnded(pod) {
			continue
		}
		a, err := gpustate.BookingOf(pod)
		if err != nil {
			t.Errorf("pod %s: %v", pod.Name, err)
		}
		if gpustate.LacksAllocation(pod) {
			t.Errorf("pod %s is bound without an allocation", pod.Name)
		}
		if a == nil {
			continue
		}
		for _, d := range a.Devices {
			key := pod.Spec.NodeName + "/" + d.UUID
			booked[key] = booked[key].Plus(d.Memory)
			perDevice[d.UUID]++
			if _, ok := capacity[key]; !ok {
				t.Errorf("pod %s has device %s, which its node %s has not", pod.Name, d.UUID, pod.Spec.NodeName)
			}
		}
	}
	for key, b := range booked {
		if capacity[key].Less(b) {
			t.Errorf("%s is overbooked: %s of %s", key, b, capacity[key])
		}
	}
	return perDevice
}

// priorityClass makes a priority class of the lab.
func priorityClass(t *testing.T, lab *harness.Lab, name string, value int32) {
	t.Helper()
	harness.Create(t, lab, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value})
}

// events returns the messages of a pod's Events of a reason.
func (s *site) events(pod *corev1.Pod, reason string) []string {
	s.t.Helper()
	var list corev1.EventList
	if err := s.Client.List(s.t.Context(), &list, client.InNamespace(pod.Namespace)); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.InvolvedObject.Name == pod.Name && e.Reason == reason {
			out = append(out, e.Message)
		}
	}
	return out
}

// freeMemoryOf reports that a pod's processes are gone from every device.
func (s *site) freeMemoryOf(pod types.UID) {
	s.t.Helper()
	for i := range s.count {
		delete(s.held[i], pod)
	}
	s.Report(s.t, s.report())
}

// waitReplicas waits until a Deployment has that many ready replicas.
func (s *site) waitReplicas(d *appsv1.Deployment, n int32) {
	s.t.Helper()
	harness.Eventually(s.t, fmt.Sprintf("%s has %d ready replicas", d.Name, n), func(ctx context.Context) (bool, string) {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(d), d); err != nil {
			return false, err.Error()
		}
		return d.Status.ReadyReplicas == n, fmt.Sprintf("it has %d", d.Status.ReadyReplicas)
	})
}

// podWithLabel finds a pod by a label.
func (s *site) podWithLabel(key, value string, pod **corev1.Pod) func(context.Context) (bool, string) {
	return func(ctx context.Context) (bool, string) {
		var list corev1.PodList
		if err := s.Client.List(ctx, &list, client.InNamespace("default"), client.MatchingLabels{key: value}); err != nil {
			return false, err.Error()
		}
		if len(list.Items) == 0 {
			return false, "there is none"
		}
		*pod = &list.Items[0]
		return true, ""
	}
}
