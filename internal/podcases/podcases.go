// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podcases holds the pods that a Go test of the request parser and a test of the admission policies both
// judge, so that the two cannot come to disagree.
package podcases

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Case is a pod and what becomes of it.
type Case struct {
	// Name is a sentence.
	Name string
	// Pod is what the user creates; its name and namespace are the test's business.
	Pod *corev1.Pod
	// Refused is what the refusal must say, in order to be of use; empty when the pod is accepted.
	Refused string
	// Want is the request of an accepted pod; nil when it asks for no GPU memory.
	Want *berthv1alpha1.PodRequest
	// AdmissionOnly marks what only the apiserver refuses; the parser sees such pods also after they were bound.
	AdmissionOnly bool
}

// All returns every case; the pods may be changed.
func All() []Case {
	var all []Case
	for _, group := range [][]Case{
		memoryCases(), countCases(), settingCases(), modelCases(), keyCases(), podCases(), containerCases(), envCases(),
		resourceCases(),
	} {
		all = append(all, group...)
	}
	return all
}

// gpuPod is a pod of one container that asks by the annotations given as pairs of key (without the prefix) and value.
func gpuPod(pairs ...string) *corev1.Pod {
	pod := plainPod()
	pod.Spec.SchedulerName = berthv1alpha1.SchedulerName
	pod.Annotations = map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		pod.Annotations[berthv1alpha1.GroupName+"/"+pairs[i]] = pairs[i+1]
	}
	return pod
}

func plainPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod"},
		Spec: corev1.PodSpec{
			SchedulerName: corev1.DefaultSchedulerName,
			Containers:    []corev1.Container{{Name: "server", Image: "example.test/server:1"}},
		},
	}
}

// with applies changes to a pod.
func with(pod *corev1.Pod, changes ...func(*corev1.Pod)) *corev1.Pod {
	for _, change := range changes {
		change(pod)
	}
	return pod
}

func container(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: "example.test/sidecar:1"})
	}
}

func initContainer(c corev1.Container) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		c.Name, c.Image = "init", "example.test/init:1"
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
}

func annotation(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, key, value)
	}
}

func label(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { metav1.SetMetaDataLabel(&pod.ObjectMeta, key, value) }
}

func scheduler(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.SchedulerName = name }
}

// env appends variables to container i.
func env(i int, vars ...corev1.EnvVar) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers[i].Env = append(pod.Spec.Containers[i].Env, vars...) }
}

func limit(name corev1.ResourceName) func(*corev1.Pod) { return limitTo(name, "1") }

func limitTo(name corev1.ResourceName, quantity string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{name: resource.MustParse(quantity)}
	}
}

// reference is the line by which a container takes its GPUs from the allocation.
func reference() corev1.EnvVar {
	return fieldEnv(berthv1alpha1.EnvVisibleDevices, berthv1alpha1.AnnotationVisibleDevices)
}

func fieldEnv(name, annotation string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
		APIVersion: "v1",
		FieldPath:  "metadata.annotations['" + annotation + "']",
	}}}
}
