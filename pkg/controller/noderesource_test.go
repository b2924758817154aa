// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/controller/noderesource"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// gpusOf reports GPUs of 80Gi.
func gpusOf(t *testing.T, node string, uuids ...string) *gpunode.Object {
	gn := &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: node}}
	for _, uuid := range uuids {
		gn.Status.Devices = append(gn.Status.Devices, berthv1alpha1.GPUDevice{UUID: uuid, Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse("80Gi")}})
	}
	return objectOf(t, gn)
}

// TestNodesAdvertise follows a node: its GPUs are seen, its kubelet resets the resource, GPUs vanish for a while and for good,
// and its report is deleted.
func TestNodesAdvertise(t *testing.T) {
	w := newWorld(t, nodeWith("n"), gpusOf(t, "n", "a", "b"))
	r := &resourceReconciler{client: decoding{w.client}, clock: w.clock, headroom: alloc.MiB(1024)}
	lists := func() string {
		t.Helper()
		node := &corev1.Node{}
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "n"}, node); err != nil {
			t.Fatal(err)
		}
		c, ok := node.Status.Capacity[berthv1alpha1.ResourceGPUMemory]
		a := node.Status.Allocatable[berthv1alpha1.ResourceGPUMemory]
		switch {
		case !ok && a.IsZero():
			return "none"
		case c.Cmp(a) != 0:
			return c.String() + " and " + a.String()
		}
		return c.String()
	}
	step := func(what, want string, again time.Duration) {
		t.Helper()
		result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "n"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := lists(); got != want || result.RequeueAfter != again {
			t.Errorf("%s: it lists %s and is looked at again in %s, want %s and %s", what, got, result.RequeueAfter, want, again)
		}
	}
	report := func(uuids ...string) {
		t.Helper()
		old := gpusOf(t, "n")
		if err := w.client.Delete(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Create(t.Context(), gpusOf(t, "n", uuids...)); err != nil {
			t.Fatal(err)
		}
	}
	step("two GPUs are seen", "158Gi", 0)
	step("nothing changes", "158Gi", 0)
	if err := advertise(t.Context(), w.client, "n", 0); err != nil {
		t.Fatal(err)
	}
	step("the kubelet starts anew, and sets it to nothing", "158Gi", 0)
	report("a")
	step("a GPU vanishes", "158Gi", noderesource.LowerAfter)
	w.advance(4 * time.Minute)
	step("it is still not there", "158Gi", noderesource.LowerAfter-4*time.Minute)
	report("a", "b")
	step("it is back", "158Gi", 0)
	report("a")
	w.advance(noderesource.LowerAfter)
	step("it vanishes again, which is counted anew", "158Gi", noderesource.LowerAfter)
	w.advance(noderesource.LowerAfter)
	step("it is gone for good", "79Gi", 0)
	if err := w.client.Delete(t.Context(), gpusOf(t, "n")); err != nil {
		t.Fatal(err)
	}
	step("the report is deleted", "79Gi", noderesource.LowerAfter)
	w.advance(noderesource.LowerAfter)
	step("for good", "none", 0)
	step("and stays so", "none", 0)
}

// TestArgumentOffTakesTheResourceAway from the nodes that listed it, and touches no other.
func TestArgumentOffTakesTheResourceAway(t *testing.T) {
	on, other := nodeWith("on"), nodeWith("other")
	on.Status.Capacity = corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse("80Gi"), "cpu": resource.MustParse("8")}
	w := newWorld(t, on, other)
	before := &corev1.Node{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "other"}, before); err != nil {
		t.Fatal(err)
	}
	stopAdvertising(t.Context(), w.client, w.client)
	for name, version := range map[string]string{"on": "", "other": before.ResourceVersion} {
		node := &corev1.Node{}
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: name}, node); err != nil {
			t.Fatal(err)
		}
		if noderesource.Of(node) != -1 || name == "on" && node.Status.Capacity.Cpu().Value() != 8 {
			t.Errorf("%s: capacity %v, allocatable %v", name, node.Status.Capacity, node.Status.Allocatable)
		}
		if version != "" && node.ResourceVersion != version {
			t.Errorf("%s was written to", name)
		}
	}
}

// TestReportsOfUseDoNotWake: agents write each second while processes come and go.
func TestReportsOfUseDoNotWake(t *testing.T) {
	before, used, more := gpusOf(t, "n", "a"), gpusOf(t, "n", "a"), gpusOf(t, "n", "a", "b")
	for _, o := range []*gpunode.Object{before, used, more} {
		o.Decode()
	}
	used.Status.Devices[0].Processes = []berthv1alpha1.GPUProcess{{PodUID: "u"}}
	if memoryChanged().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: used}) {
		t.Error("a report of use wakes")
	}
	if !memoryChanged().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: more}) {
		t.Error("another GPU does not wake")
	}
}
