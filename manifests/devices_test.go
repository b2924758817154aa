// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// deviceKeys are annotations by which somebody gives devices to a container.
var deviceKeys = []string{
	"nvidia.cdi.k8s.io", "nvidia.cdi.k8s.io/pod", berthv1alpha1.NRIAnnotationPrefix + "server", "cdi.k8s.io/x_y",
	"nvidia.com/container.server.gpus.devices",
}

// checkDevices checks that a write was refused by the policy, in helpful words, or not at all.
func checkDevices(t *testing.T, what string, err error, allowed bool) {
	t.Helper()
	if allowed && err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if !allowed && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "gives a container devices, or memory of them, past the scheduler")) {
		t.Errorf("%s: %v, want it refused", what, err)
	}
}

// TestOnlyTheExemptNameDevices tries every way to write an annotation that gives a container devices, as everybody.
func TestOnlyTheExemptNameDevices(t *testing.T) {
	c := needCluster(t)
	const operator = "gpu-operator"
	if _, err := c.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operator}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.admin.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), operator, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	ours := create(t, requestingPod("ours"))
	theirs := requestingPod("theirs")
	theirs.Annotations, theirs.Spec.SchedulerName = nil, corev1.DefaultSchedulerName
	theirs = create(t, theirs)
	inGroup := func(user, group string) kubernetes.Interface {
		config := c.config(user, nil)
		config.Impersonate.Groups = append(config.Impersonate.Groups, group)
		return kubernetes.NewForConfigOrDie(config)
	}
	for _, writer := range []struct {
		name    string
		client  kubernetes.Interface
		allowed bool
	}{
		{"the scheduler", c.as(schedulerUser, nil), true},
		{"an administrator", c.as(adminUser, nil), false},
		{"the default scheduler", c.as(defaultUser, nil), false},
		{"an account of another namespace", inGroup("system:serviceaccount:tenant:x", "system:serviceaccounts:tenant"), false},
		{"the binder of a scheduler that is exempt", inGroup("system:serviceaccount:kai-scheduler:binder", "system:serviceaccounts:kai-scheduler"), true},
		{"a user with a name like an exempt account", inGroup("kai-scheduler", "kai-scheduler"), false},
	} {
		for _, key := range deviceKeys {
			for _, scheduler := range []string{berthv1alpha1.SchedulerName, corev1.DefaultSchedulerName} {
				pod := requestingPod("born")
				if scheduler != berthv1alpha1.SchedulerName {
					pod.Annotations = map[string]string{}
				}
				pod.Annotations[key], pod.Spec.SchedulerName = "nvidia.com/gpu=all", scheduler
				_, err := writer.client.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), pod, dryRun)
				checkDevices(t, writer.name+" creates a pod of "+scheduler+" with "+key, err, writer.allowed)
			}
			for _, pod := range []*corev1.Pod{ours, theirs} {
				for _, subresource := range []string{"", "status"} {
					err := annotate(t.Context(), writer.client, pod.Name, subresource, map[string]any{key: "nvidia.com/gpu=all"})
					checkDevices(t, writer.name+" patches "+pod.Name+"/"+subresource+" with "+key, err, writer.allowed)
					if err != nil {
						continue
					}
					for what, value := range map[string]any{"changes": "nvidia.com/gpu=0", "removes": nil} {
						err := annotate(t.Context(), c.as(adminUser, nil), pod.Name, subresource, map[string]any{key: value})
						checkDevices(t, "an administrator "+what+" "+key, err, false)
					}
					// What does not touch it passes, as what is there may be older than the policy.
					if err := annotate(t.Context(), c.as(adminUser, nil), pod.Name, subresource, map[string]any{"example.test/a": key}); err != nil {
						t.Errorf("another annotation beside %s: %v", key, err)
					}
					if err := annotate(t.Context(), writer.client, pod.Name, subresource, map[string]any{key: nil}); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, legacy := range []bool{false, true} {
				if writer.allowed {
					continue // it would be bound
				}
				err := bind(t.Context(), writer.client, theirs.Name, legacy, func(b *corev1.Binding) {
					b.Annotations = map[string]string{key: "nvidia.com/gpu=all"}
				})
				checkDevices(t, writer.name+" binds with "+key, err, false)
			}
		}
	}
	for _, key := range deviceKeys {
		pod := requestingPod("operand")
		pod.Annotations, pod.Spec.SchedulerName = map[string]string{key: "management.nvidia.com/gpu=all"}, corev1.DefaultSchedulerName
		_, err := c.as(adminUser, nil).CoreV1().Pods(operator).Create(t.Context(), pod, dryRun)
		checkDevices(t, "a pod of the GPU operator with "+key, err, true)
	}
}

// TestSharingOperatorIsAskedBesideNoRequest: what users ask NVIDIA's GPU sharing operator for is their business, but not
// in a pod that asks for GPU memory.
func TestSharingOperatorIsAskedBesideNoRequest(t *testing.T) {
	pods := needCluster(t).as(adminUser, nil).CoreV1().Pods(metav1.NamespaceDefault)
	for _, tc := range []struct {
		name    string
		request bool
		allowed bool
	}{{"a pod of another scheduler", false, true}, {"a pod with a request", true, false}} {
		pod := requestingPod("pod")
		if !tc.request {
			pod.Annotations, pod.Spec.SchedulerName = map[string]string{}, corev1.DefaultSchedulerName
		}
		pod.Annotations["nvidia.com/container.server.gpu-memory.limit"] = "8Gi"
		_, err := pods.Create(t.Context(), pod, dryRun)
		checkDevices(t, tc.name, err, tc.allowed)
	}
}
