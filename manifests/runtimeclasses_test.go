// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"
)

// with applies what is off by default, or an example, for as long as the test runs.
func (c *testCluster) with(t *testing.T, text []byte) {
	t.Helper()
	client, mapper := dynamic.NewForConfigOrDie(c.controlPlane.Config()), c.mapper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if err := apply(t.Context(), client, mapper, object); err != nil {
			t.Fatal(err)
		}
		gvk := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			err := client.Resource(mapping.Resource).Namespace(object.GetNamespace()).
				Delete(context.WithoutCancel(t.Context()), object.GetName(), metav1.DeleteOptions{})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRuntimeClassesAreForThoseWhoAsk puts the policy that is off by default into force, and takes it away again.
func TestRuntimeClassesAreForThoseWhoAsk(t *testing.T) {
	c := needCluster(t)
	text, err := os.ReadFile("components/runtime-classes/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.with(t, text)
	for _, class := range []string{"nvidia-cdi", "nvidia-legacy", "runc-other"} {
		if _, err := c.admin.NodeV1().RuntimeClasses().Create(t.Context(), &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Handler: class}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.admin.NodeV1().RuntimeClasses().Delete(context.WithoutCancel(t.Context()), class, metav1.DeleteOptions{})
		})
	}
	free := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "free", Labels: map[string]string{"berth.dev/gpu-runtime-classes": "allowed"}}}
	if _, err := c.admin.CoreV1().Namespaces().Create(t.Context(), free, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.admin.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), free.Name, metav1.DeleteOptions{})
	})
	try := func(ctx context.Context, namespace, class string, change func(*corev1.Pod)) error {
		pod := requestingPod("classy")
		pod.Annotations, pod.Spec.SchedulerName, pod.Spec.ServiceAccountName = nil, corev1.DefaultSchedulerName, ""
		if class != "" {
			pod.Spec.RuntimeClassName = ptr.To(class)
		}
		if change != nil {
			change(pod)
		}
		_, err := c.as(adminUser, nil).CoreV1().Pods(namespace).Create(ctx, pod, dryRun)
		return err
	}
	ours := func(pod *corev1.Pod) {
		pod.Annotations, pod.Spec.SchedulerName = requestingPod("").Annotations, requestingPod("").Spec.SchedulerName
	}
	whole := func(amount string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": quantity(amount)}
		}
	}
	byName := func(pod *corev1.Pod) {
		whole("1")(pod)
		pod.Spec.NodeName = "node"
	}
	nic := func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/hostdev": quantity("1")}
	}
	const namespace = metav1.NamespaceDefault
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		// The new namespace needs its service account before it takes pods.
		return denied(try(ctx, namespace, "nvidia", nil)) && try(ctx, free.Name, "", nil) == nil, nil
	}); err != nil {
		t.Fatal("the policy is not in force, or a namespace takes no pods")
	}
	for _, tc := range []struct {
		name, namespace, class string
		change                 func(*corev1.Pod)
		allowed                bool
	}{
		{"nobody asks", namespace, "nvidia", nil, false},
		{"nobody asks, by CDI", namespace, "nvidia-cdi", nil, false},
		{"nobody asks, the old way", namespace, "nvidia-legacy", nil, false},
		{"a GPU of the device plugin", namespace, "nvidia", whole("1"), true},
		{"no GPU of the device plugin", namespace, "nvidia", whole("0"), false},
		{"a GPU of the device plugin, on a node by name, which may have none", namespace, "nvidia", byName, false},
		{"a network device of NVIDIA's", namespace, "nvidia", nic, false},
		{"a request of Berth's", namespace, "nvidia-cdi", ours, true},
		{"a request of Berth's that names no class", namespace, "", ours, true},
		{"a plain pod", namespace, "", nil, true},
		{"another class", namespace, "runc-other", nil, true},
		{"a namespace that is labelled", free.Name, "nvidia", nil, true},
	} {
		err := try(t.Context(), tc.namespace, tc.class, tc.change)
		check(t, fmt.Sprintf("%s, class %q", tc.name, tc.class), err, tc.allowed)
		if !tc.allowed && err != nil && !strings.Contains(err.Error(), "is for pods that ask for a GPU") {
			t.Errorf("%s: not a helpful refusal: %v", tc.name, err)
		}
	}
}
