// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// held is a pod on node a that holds memory.
func held(name string) *bt.Pod {
	at := epoch.Add(-time.Hour)
	return bt.MakePod(name).Memory("60Gi").Bound("a", at, "GPU-0=60Gi").Started(at).Ready(at)
}

func TestDrainTakesWhatAControllerMakesAgain(t *testing.T) {
	daemon := held("daemon").Obj()
	isController := true
	daemon.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "d", Controller: &isController}}
	static := held("static").Obj()
	static.Annotations[corev1.MirrorPodAnnotationKey] = "x"
	s := &Snapshot{Time: epoch, Objects: append(gpuNode(bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Active("served", "60Gi")),
		held("served").Obj(), held("going").Terminating(epoch).Obj(), daemon, static)}
	displaced, err := s.Drain("a")
	if err != nil {
		t.Fatal(err)
	}
	if len(displaced) != 1 || displaced[0].Name != "served" || displaced[0].Spec.NodeName != "" || displaced[0].UID == "served" ||
		displaced[0].Annotations[berthv1alpha1.AnnotationAllocation] != "" || displaced[0].Annotations[berthv1alpha1.AnnotationGPUMemory] == "" {
		t.Errorf("displaced: %+v", displaced)
	}
	var left []string
	for _, obj := range s.Objects {
		switch o := obj.(type) {
		case *corev1.Pod:
			left = append(left, o.Name)
		case *gpunode.Object:
			if d := o.Status.Devices[0]; len(d.Processes) != 0 || !d.Memory.Used.IsZero() {
				t.Errorf("its memory is not back: %+v", d)
			}
		case *corev1.Node:
			if !o.Spec.Unschedulable || len(o.Spec.Taints) != 1 {
				t.Error("the node is not cordoned")
			}
		}
	}
	if slices.Sort(left); !slices.Equal(left, []string{"daemon", "static"}) {
		t.Errorf("left on the node: %v", left)
	}
}

// TestANewNodeIsLikeTheOthers but for what is the state of the one that it is made after.
func TestANewNodeIsLikeTheOthers(t *testing.T) {
	objects := gpuNode(bt.MakeGPUNodeOf("a", 2, "80Gi"))
	like := objects[0].(*corev1.Node)
	like.Labels["pool"] = "gpus"
	like.Spec.Unschedulable = true
	like.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}, {Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
	s := &Snapshot{Time: epoch, Objects: append(objects, held("low").Obj())}
	shape, err := ParseShape("H100-80x4")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddNodes(shape, 2); err != nil {
		t.Fatal(err)
	}
	n := byName[*corev1.Node](s, "", "new-h100-80x4-1")
	gn := byName[*gpunode.Object](s, "", "new-h100-80x4-1")
	lease := byName[*coordinationv1.Lease](s, berthv1alpha1.Namespace, "new-h100-80x4-1")
	switch {
	case n == nil || gn == nil || lease == nil:
		t.Fatal("something of it is missing")
	case n.Labels["pool"] != "gpus" || n.Labels[corev1.LabelHostname] != n.Name || n.Spec.Unschedulable || len(n.Spec.Taints) != 1:
		t.Errorf("%+v", n)
	case len(gn.Status.Devices) != 4 || len(gn.Status.Devices[0].Processes) != 0 || gn.Status.Devices[0].Memory.Total.Value() != 81559<<20:
		t.Errorf("%+v", gn.Status)
	case len(s.Notes) != 0:
		t.Errorf("%q", s.Notes)
	}
	other, err := ParseShape("l4-24x1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddNodes(other, 1); err != nil || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "NVIDIA L4") {
		t.Errorf("that nothing is known of nodes with L4s is not said: %q, %v", s.Notes, err)
	}
	if err := (&Snapshot{}).AddNodes(shape, 1); err == nil {
		t.Error("a node was made after none")
	}
}

func TestShapes(t *testing.T) {
	for _, text := range []string{"", "x", "h100-80", "h100-80x", "h100-80x0", "h100-80x99", "h900x8", "x8"} {
		if shape, err := ParseShape(text); err == nil {
			t.Errorf("%q is read as %+v", text, shape)
		}
	}
}

// TestSilentAgents: how old a report is counts from when the snapshot was taken, and agents that were alive then stay so.
func TestSilentAgents(t *testing.T) {
	lease := func(node string, age time.Duration) *coordinationv1.Lease {
		return leaseOf(node, metav1.NewMicroTime(epoch.Add(-age)))
	}
	objects := append(gpuNode(bt.MakeGPUNodeOf("a", 1, "80Gi")), gpuNode(bt.MakeGPUNodeOf("b", 1, "80Gi"))...)
	s, err := New(t.Context(), &Snapshot{Time: epoch, Objects: append(objects, lease("a", 2*time.Minute), lease("b", 5*time.Second))}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	first, second := bt.MakePod("p").Memory("60Gi").Obj(), bt.MakePod("q").Memory("60Gi").Obj()
	run(t, s, first, second)
	if got := result(t, s, first); got != "b GPU-0=60Gi after 0s" {
		t.Error(got)
	}
	if got := result(t, s, second); !strings.Contains(got, "pending") {
		t.Error(got)
	}
	s.clock.moveTo(s.clock.Now().Add(time.Hour))
	if err := s.agent.renew(); err != nil {
		t.Fatal(err)
	}
	third := bt.MakePod("r").Memory("10Gi").Obj()
	run(t, s, third)
	if got := result(t, s, third); !strings.HasPrefix(got, "b GPU-0=10Gi") {
		t.Errorf("an hour later: %s", got)
	}
}
