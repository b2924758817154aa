// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// requestingPod is a pod of one container that asks for 30Gi.
func requestingPod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{berthv1alpha1.AnnotationGPUMemory: "30Gi"},
		},
		Spec: corev1.PodSpec{
			SchedulerName: berthv1alpha1.SchedulerName,
			Containers:    []corev1.Container{{Name: "server", Image: "example.test/server:1"}},
		},
	}
}

// envNames lists the variables of a container in order, those from annotations as NAME<annotation.
func envNames(env []corev1.EnvVar) []string {
	var names []string
	for _, e := range env {
		switch {
		case e.ValueFrom != nil && e.ValueFrom.FieldRef != nil:
			path := strings.TrimSuffix(strings.TrimPrefix(e.ValueFrom.FieldRef.FieldPath, "metadata.annotations['"), "']")
			names = append(names, e.Name+"<"+path)
		default:
			names = append(names, e.Name+"="+e.Value)
		}
	}
	return names
}

var handedOver = []string{
	"NVIDIA_VISIBLE_DEVICES<berth.dev/visible-devices",
	"CUDA_DEVICE_ORDER=PCI_BUS_ID",
	"BERTH_TENSOR_PARALLEL_SIZE<berth.dev/tensor-parallel-size",
	"BERTH_GPU_MEMORY_UTILIZATION<berth.dev/gpu-memory-utilization",
	"BERTH_MEM_FRACTION_STATIC<berth.dev/mem-fraction-static",
	"BERTH_FREE_GPU_MEMORY_FRACTION<berth.dev/free-gpu-memory-fraction",
	"BERTH_TENSOR_SPLIT<berth.dev/tensor-split",
}

func TestHandOffVariables(t *testing.T) {
	own := corev1.EnvVar{Name: "ARGS", Value: "--tensor-parallel-size=$(BERTH_TENSOR_PARALLEL_SIZE)"}
	tests := []struct {
		name   string
		change func(*corev1.Pod)
		want   map[string][]string // by container
	}{
		{"a container without variables", func(*corev1.Pod) {}, map[string][]string{"server": handedOver}},
		{
			"ours come before the user's own, which can refer to them",
			func(pod *corev1.Pod) { pod.Spec.Containers[0].Env = []corev1.EnvVar{own} },
			map[string][]string{"server": append(handedOver[:len(handedOver):len(handedOver)], "ARGS="+own.Value)},
		},
		{
			"what is there by hand is not put there again",
			func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Env = []corev1.EnvVar{own, {
					Name: berthv1alpha1.EnvVisibleDevices,
					ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
						FieldPath: berthv1alpha1.VisibleDevicesFieldPath,
					}},
				}}
			},
			map[string][]string{"server": append(handedOver[1:len(handedOver):len(handedOver)], "ARGS="+own.Value, handedOver[0])},
		},
		{
			"the reference to bare UUIDs stays, which may be older than this version",
			func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Env = []corev1.EnvVar{{
					Name: berthv1alpha1.EnvVisibleDevices,
					ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
						FieldPath: berthv1alpha1.GPUUUIDsFieldPath,
					}},
				}}
			},
			map[string][]string{"server": append(handedOver[1:len(handedOver):len(handedOver)], "NVIDIA_VISIBLE_DEVICES<berth.dev/gpu-uuids")},
		},
		{
			"a native sidecar that is named gets the GPUs, and the container none",
			func(pod *corev1.Pod) {
				pod.Annotations[berthv1alpha1.AnnotationContainer] = "engine"
				pod.Spec.InitContainers = []corev1.Container{
					{Name: "engine", Image: "example.test/engine:1", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Env: []corev1.EnvVar{own}},
				}
			},
			map[string][]string{
				"engine": append(handedOver[:len(handedOver):len(handedOver)], "ARGS="+own.Value), "server": {"NVIDIA_VISIBLE_DEVICES=void"},
			},
		},
		{
			"containers and init containers that are named share the GPUs",
			func(pod *corev1.Pod) {
				pod.Annotations[berthv1alpha1.AnnotationContainer] = "server,convert,metrics"
				pod.Spec.InitContainers = []corev1.Container{
					{Name: "fetch", Image: "example.test/fetch:1"}, {Name: "convert", Image: "example.test/convert:1"},
				}
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "metrics", Image: "example.test/metrics:1"})
			},
			map[string][]string{
				"fetch": {"NVIDIA_VISIBLE_DEVICES=void"}, "convert": handedOver, "server": handedOver, "metrics": handedOver,
			},
		},
		{
			"llama.cpp reads its split from a variable of its own",
			func(pod *corev1.Pod) { pod.Annotations[berthv1alpha1.AnnotationRuntime] = "llama.cpp" },
			map[string][]string{
				"server": append(handedOver[:len(handedOver):len(handedOver)], "LLAMA_ARG_TENSOR_SPLIT<berth.dev/tensor-split"),
			},
		},
		{
			"init containers and sidecars get no GPU",
			func(pod *corev1.Pod) {
				pod.Annotations[berthv1alpha1.AnnotationContainer] = "server"
				pod.Spec.InitContainers = []corev1.Container{
					{Name: "init", Image: "example.test/init:1"},
					{Name: "proxy", Image: "example.test/proxy:1", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Env: []corev1.EnvVar{own}},
				}
				pod.Spec.Containers = append([]corev1.Container{{Name: "logs", Image: "example.test/logs:1"}}, pod.Spec.Containers...)
			},
			map[string][]string{
				"init": {"NVIDIA_VISIBLE_DEVICES=void"}, "proxy": {"NVIDIA_VISIBLE_DEVICES=void", "ARGS=" + own.Value},
				"logs": {"NVIDIA_VISIBLE_DEVICES=void"}, "server": handedOver,
			},
		},
		{
			"a pod of this scheduler without a request gets no GPU",
			func(pod *corev1.Pod) { pod.Annotations = nil },
			map[string][]string{"server": {"NVIDIA_VISIBLE_DEVICES=void"}},
		},
		{
			"a pod that asks the device plugin for a whole GPU gets it from there",
			func(pod *corev1.Pod) {
				pod.Annotations = nil
				pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{berthv1alpha1.ResourceNVIDIAGPU: quantity("1")}
			},
			map[string][]string{"server": nil},
		},
		{
			"a pod of another scheduler is left alone",
			func(pod *corev1.Pod) { pod.Annotations, pod.Spec.SchedulerName = nil, "default-scheduler" },
			map[string][]string{"server": nil},
		},
	}
	pods := needCluster(t).admin.CoreV1().Pods(metav1.NamespaceDefault)
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			pod := requestingPod("pod")
			tc.change(pod)
			pod, err := pods.Create(t.Context(), pod, dryRun)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string][]string{}
			for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
				got[c.Name] = envNames(c.Env)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("variables (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHandOffRuntimeClass(t *testing.T) {
	pods := needCluster(t).admin.CoreV1().Pods(metav1.NamespaceDefault)

	pod, err := pods.Create(t.Context(), requestingPod("pod"), dryRun)
	if err != nil {
		t.Fatal(err)
	}
	if got := ptr.Deref(pod.Spec.RuntimeClassName, ""); got != "nvidia" {
		t.Errorf("runtimeClassName %q, want nvidia", got)
	}
	if _, ok := pod.Spec.Overhead[corev1.ResourceCPU]; !ok {
		t.Error("the class's overhead is missing: the apiserver's own plugins did not see the class")
	}

	plain := requestingPod("pod")
	plain.Annotations = nil
	if pod, err = pods.Create(t.Context(), plain, dryRun); err != nil {
		t.Fatal(err)
	}
	if pod.Spec.RuntimeClassName != nil {
		t.Errorf("a pod that asks for no GPU has runtimeClassName %q", *pod.Spec.RuntimeClassName)
	}
}

func TestDebuggingContainersSeeNoGPU(t *testing.T) {
	pods := needCluster(t).admin.CoreV1().Pods(metav1.NamespaceDefault)
	pod := create(t, requestingPod("debugged"))
	addContainer := func(name string, env ...corev1.EnvVar) error {
		t.Helper()
		current, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		current.Spec.EphemeralContainers = append(current.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "example.test/debug:1", Env: env,
				TerminationMessagePolicy: corev1.TerminationMessageReadFile, ImagePullPolicy: corev1.PullAlways},
		})
		_, err = pods.UpdateEphemeralContainers(t.Context(), pod.Name, current, metav1.UpdateOptions{})
		return err
	}
	for _, name := range []string{"first", "second"} {
		if err := addContainer(name); err != nil {
			t.Fatal(err)
		}
	}
	err := addContainer("third", corev1.EnvVar{Name: berthv1alpha1.EnvVisibleDevices, Value: "all"})
	if err == nil || !strings.Contains(err.Error(), "third") {
		t.Errorf("a debugging container with all GPUs: %v", err)
	}
	pod, err = pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		if diff := cmp.Diff([]string{"NVIDIA_VISIBLE_DEVICES=void"}, envNames(c.Env)); diff != "" {
			t.Errorf("container %s (-want +got):\n%s", c.Name, diff)
		}
	}
}

// create makes the pod, as a user, and deletes it after the test.
func create(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	pods := needCluster(t).admin.CoreV1().Pods(metav1.NamespaceDefault)
	pod, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Without a kubelet a bound pod goes only at once.
		if err := pods.Delete(context.WithoutCancel(t.Context()), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
			t.Errorf("delete %s: %v", pod.Name, err)
		}
	})
	return pod
}
