// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

func TestOrphansAreDeletedOnceTheirNodeIsGoneForGood(t *testing.T) {
	node := func(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	pods, nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil), cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)
	// The informer has not heard of the node "new" yet.
	objects := []runtime.Object{node("here"), node("new")}
	if err := nodes.Add(node("here")); err != nil {
		t.Fatal(err)
	}
	for name, node := range map[string]string{"orphan": "gone", "settled": "here", "waiting": "", "early": "new"} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
			Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
		}
		objects = append(objects, pod)
		if err := pods.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	client := fake.NewClientset(objects...)
	c := &orphanCollector{client: client, pods: corelisters.NewPodLister(pods), nodes: corelisters.NewNodeLister(nodes)}
	all, begin := []string{"early", "orphan", "settled", "waiting"}, time.Now()
	for _, step := range []struct {
		name  string
		after time.Duration
		want  []string
	}{
		{"a node that is missing may come back", 0, all},
		{"nor is it gone just before the end of the quarantine", quarantine - time.Second, all},
		{"then its pods are deleted, and those of a node that the API server has are not", quarantine, []string{"early", "settled", "waiting"}},
	} {
		if err := c.collect(t.Context(), begin.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		list, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range list.Items {
			got = append(got, list.Items[i].Name)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}
