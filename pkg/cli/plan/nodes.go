// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/simulator"
)

// PodsOfNode is how many pods a node takes: the kubelet's default.
const PodsOfNode = 110

// unlimited is more than pods can ask for.
var unlimited = map[corev1.ResourceName]string{corev1.ResourceCPU: "1M", corev1.ResourceMemory: "1Pi", corev1.ResourceEphemeralStorage: "1Pi"}

// at is when all of it happens. Nothing depends on it.
var at = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clusterObjects are those of any cluster with Berth: the RuntimeClass of GPUs, and the priority classes that are shipped.
func clusterObjects() ([]runtime.Object, error) {
	objects := []runtime.Object{&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"}}
	shipped, err := manifests.Objects("priorityclasses.yaml")
	if err != nil {
		return nil, err
	}
	for _, o := range shipped {
		class := &schedulingv1.PriorityClass{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, class); err != nil {
			return nil, err
		}
		objects = append(objects, class)
	}
	return objects, nil
}

// nodeName is the name of a planned node.
func nodeName(shape *Shape, i int) string { return fmt.Sprintf("%s-%d", shape.Name, i) }

// addNodes adds empty nodes to a snapshot.
func addNodes(s *simulator.Snapshot, shapes []Shape, labels map[string]string, counts []int) {
	for i := range shapes {
		shape := &shapes[i]
		room := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(PodsOfNode, resource.DecimalSI)}
		for name, much := range unlimited {
			room[name] = resource.MustParse(much)
		}
		if !shape.CPU.IsZero() {
			room[corev1.ResourceCPU] = shape.CPU
		}
		if !shape.Memory.IsZero() {
			room[corev1.ResourceMemory] = shape.Memory
		}
		like := &corev1.Node{Status: corev1.NodeStatus{Capacity: room, Allocatable: room}}
		like.Labels = map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}
		for key, value := range labels {
			like.Labels[key] = value
		}
		for n := range counts[i] {
			s.AddNode(nodeName(shape, n), like, &berthv1alpha1.GPUNodeStatus{}, shape.Shape)
		}
	}
}
