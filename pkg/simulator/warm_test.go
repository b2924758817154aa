// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	bt "github.com/berth-dev/berth/internal/testing"
)

// nodesOf returns nodes of two GPUs each, with their reports.
func nodesOf(names ...string) (objects []runtime.Object) {
	for _, name := range names {
		objects = append(objects, gpuNode(bt.MakeGPUsOf(name, 2, "80Gi"))...)
	}
	return objects
}

// TestWarmPlacesOfASnapshot: what runs, and what images nodes have, is in it, and decides as in a cluster.
func TestWarmPlacesOfASnapshot(t *testing.T) {
	at := epoch.Add(-time.Hour)
	loading := func(name string) *bt.Pod { return bt.MakePod(name).Memory("79Gi").Model("hf://org/repo") }
	withImage := bt.MakePod("q").Memory("79Gi")
	withImage.Spec.Volumes = []corev1.Volume{{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r/m:1"}}}}
	for _, tc := range []struct {
		name string
		edit func([]runtime.Object) []runtime.Object
		pod  *bt.Pod
		want string
	}{
		{"a pod of the model runs there", func(o []runtime.Object) []runtime.Object {
			return append(o, loading("p").Bound("c", at, bt.GPUOf("c", 0)+"=79Gi").Started(at).Ready(at).Obj())
		}, loading("q"), "pod default/p with the same model runs on the node"},
		{"its image volume is there", func(o []runtime.Object) []runtime.Object {
			for _, obj := range o {
				if n, ok := obj.(*corev1.Node); ok && n.Name == "c" {
					n.Status.Images = []corev1.ContainerImage{{Names: []string{"r/m:1"}, SizeBytes: 14 << 30}}
				}
			}
			return o
		}, withImage, "its image volumes (14Gi) are on the node"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := simulate(t, tc.edit(nodesOf("a", "b", "c", "d"))...)
			pod := tc.pod.Obj()
			run(t, s, pod)
			if got := result(t, s, pod); !strings.HasPrefix(got, "c ") {
				t.Errorf("it is on %s, want c", got)
			}
			if notes := fmt.Sprint(s.events.of); !strings.Contains(notes, "; warm: "+tc.want) {
				t.Errorf("told %s, want %q", notes, tc.want)
			}
		})
	}
}

// TestReplicasSpreadAsBefore: by the profile that is shipped, replicas that fit equally well anywhere go to a node each, as
// PodTopologySpread wants it, though the first one's node has what they load; and back to the nodes that they were on.
func TestReplicasSpreadAsBefore(t *testing.T) {
	labels := map[string]string{"app": "chat", "pod-template-hash": "7d9f"}
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: "chat-7d9f", UID: "set"}, Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}
	replica := func(name string) *corev1.Pod {
		p := bt.MakePod(name).Memory("79Gi").Model("hf://org/repo")
		p.Labels = labels
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
		return p.Obj()
	}
	s := simulate(t, append(nodesOf("a", "b", "c"), set)...)
	nodes := func(round string) (nodes []string) {
		for i := range 2 {
			pod := replica(fmt.Sprint(round, i))
			run(t, s, pod)
			node, _, _ := strings.Cut(result(t, s, pod), " ")
			nodes = append(nodes, node)
		}
		return nodes
	}
	first := nodes("first-")
	if first[0] == first[1] {
		t.Errorf("both replicas are on node %s", first[0])
	}
	for i := range 2 {
		if err := s.Delete(s.Pod(bt.Namespace, fmt.Sprint("first-", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	again := nodes("second-")
	slices.Sort(first)
	slices.Sort(again)
	if !slices.Equal(first, again) {
		t.Errorf("they were on %v, and are on %v", first, again)
	}
}
