// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestControllerWritesOnlyItsOwnOfNodes: its right to patch the status of Nodes, which RBAC cannot narrow, says nothing
// else of them. Each field of the status that a kubelet writes is tried, and metadata, which passes through the status too.
func TestControllerWritesOnlyItsOwnOfNodes(t *testing.T) {
	c := needCluster(t)
	const name = "node-condition"
	nodes := c.admin.CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pool": "a"}}}
	if _, err := nodes.Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	kubelet := `{"status":{"capacity":{"cpu":"8"},"allocatable":{"cpu":"8"},"addresses":[{"type":"Hostname","address":"n"}],
"nodeInfo":{"kernelVersion":"6"},"conditions":[{"type":"Ready","status":"True"}],"volumesInUse":["v"],"images":[{"names":["a"]}]}}`
	if _, err := nodes.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(kubelet), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	controller := c.as(controllerUser, nil).CoreV1().Nodes()
	for _, tc := range []struct {
		name, patch string
		allowed     bool
	}{
		{"its condition", `{"status":{"conditions":[{"type":"GPUUnhealthy","status":"True","reason":"Xid79","message":"m"}]}}`, true},
		{"that it is over", `{"status":{"conditions":[{"type":"GPUUnhealthy","status":"False"}]}}`, true},
		{"that there is none any more", `{"status":{"conditions":[{"$patch":"delete","type":"GPUUnhealthy"}]}}`, true},
		{"that the node is not ready", `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`, false},
		{"another condition", `{"status":{"conditions":[{"type":"KernelDeadlock","status":"True"}]}}`, false},
		{"its own beside another", `{"status":{"conditions":[{"type":"GPUUnhealthy","status":"True"},{"type":"Ready","status":"False"}]}}`, false},
		{"no conditions", `{"status":{"conditions":null}}`, false},
		{"more of a resource", `{"status":{"capacity":{"cpu":"16"}}}`, false},
		{"its resource", `{"status":{"capacity":{"berth.dev/gpu-memory":"80Gi"},"allocatable":{"berth.dev/gpu-memory":"80Gi"}}}`, true},
		{"another amount of it", `{"status":{"capacity":{"berth.dev/gpu-memory":"40Gi"},"allocatable":{"berth.dev/gpu-memory":"40Gi"}}}`, true},
		{"its resource beside another", `{"status":{"capacity":{"berth.dev/gpu-memory":"80Gi","cpu":"16"}}}`, false},
		{"that there is none of it any more", `{"status":{"capacity":{"berth.dev/gpu-memory":null},"allocatable":{"berth.dev/gpu-memory":null}}}`, true},
		{"a new resource", `{"status":{"capacity":{"berth.dev/other":"80Gi"}}}`, false},
		{"what can be allocated", `{"status":{"allocatable":{"cpu":"16"}}}`, false},
		{"no capacity", `{"status":{"capacity":null}}`, false},
		{"an address", `{"status":{"addresses":[{"type":"Hostname","address":"m"}]}}`, false},
		{"a kernel", `{"status":{"nodeInfo":{"kernelVersion":"5"}}}`, false},
		{"volumes in use", `{"status":{"volumesInUse":null}}`, false},
		{"an image", `{"status":{"images":null}}`, false},
		{"a phase", `{"status":{"phase":"Terminated"}}`, false},
		{"a port of the kubelet", `{"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":1}}}}`, false},
		{"a runtime handler", `{"status":{"runtimeHandlers":[{"name":"nvidia"}]}}`, false},
		{"a label", `{"metadata":{"labels":{"pool":"b"}}}`, false},
		{"an annotation", `{"metadata":{"annotations":{"berth.dev/hand-off":"UUID"}}}`, false},
		{"a finalizer", `{"metadata":{"finalizers":["example.com/x"]}}`, false},
		{"an owner", `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"x","uid":"u"}]}}`, false},
	} {
		_, err := controller.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(tc.patch), metav1.PatchOptions{}, "status")
		check(t, "the controller writes "+tc.name, err, tc.allowed)
	}
	_, err := controller.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	check(t, "the controller cordons it", err, false)
	check(t, "the controller deletes it", controller.Delete(t.Context(), name, metav1.DeleteOptions{}), false)
	_, err = controller.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, metav1.CreateOptions{})
	check(t, "the controller makes one", err, false)

	_, err = c.as("system:node:"+name, nil).CoreV1().Nodes().
		Patch(t.Context(), name, types.StrategicMergePatchType, []byte(`{"status":{"capacity":{"cpu":"16"}}}`), metav1.PatchOptions{}, "status")
	check(t, "a kubelet writes a resource", err, true)
}
