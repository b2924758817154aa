// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/api/v1alpha1"
)

func reference() corev1.EnvVar {
	return corev1.EnvVar{Name: v1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['berth.dev/gpu-uuids']"},
	}}
}

func TestHasReference(t *testing.T) {
	all := corev1.EnvVar{Name: v1alpha1.EnvVisibleDevices, Value: "all"}
	tests := []struct {
		name string
		env  []corev1.EnvVar
		want bool
	}{
		{"no variables", nil, false},
		{"the reference", []corev1.EnvVar{{Name: "A", Value: "b"}, reference()}, true},
		{"a value", []corev1.EnvVar{all}, false},
		{"a value after the reference overrides it", []corev1.EnvVar{reference(), all}, false},
		{"the reference after a value is not relied on", []corev1.EnvVar{all, reference()}, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := v1alpha1.HasReference(&corev1.Container{Env: tc.env}); got != tc.want {
				t.Errorf("HasReference() = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestGPUContainer(t *testing.T) {
	const kubectlDefault = "kubectl.kubernetes.io/default-container"
	a, b := corev1.Container{Name: "a"}, corev1.Container{Name: "b"}
	aRef, bRef := a, b
	aRef.Env, bRef.Env = []corev1.EnvVar{reference()}, []corev1.EnvVar{reference()}
	tests := []struct {
		name        string
		annotations map[string]string
		containers  []corev1.Container
		want        string // empty: an error
	}{
		{"the only one", nil, []corev1.Container{a}, "a"},
		{"the one that the annotation names", map[string]string{v1alpha1.AnnotationContainer: "b"}, []corev1.Container{a, b}, "b"},
		{"kubectl's default", map[string]string{kubectlDefault: "b"}, []corev1.Container{a, b}, "b"},
		{"the annotation before kubectl's default", map[string]string{v1alpha1.AnnotationContainer: "a", kubectlDefault: "b"}, []corev1.Container{a, b}, "a"},
		{"the one with the reference, whatever was injected later", map[string]string{kubectlDefault: "b"}, []corev1.Container{aRef, b}, "a"},
		{"of two with the reference, the one that is named", map[string]string{v1alpha1.AnnotationContainer: "b"}, []corev1.Container{aRef, bRef}, "b"},
		{"kubectl's default is not there, but there is only one", map[string]string{kubectlDefault: "x"}, []corev1.Container{a}, "a"},
		{"two and nothing said", nil, []corev1.Container{a, b}, ""},
		{"two with the reference and nothing said", nil, []corev1.Container{aRef, bRef}, ""},
		{"a name that is none of them", map[string]string{v1alpha1.AnnotationContainer: "c"}, []corev1.Container{a, b}, ""},
		{"a name against the reference", map[string]string{v1alpha1.AnnotationContainer: "b"}, []corev1.Container{aRef, b}, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations},
				Spec:       corev1.PodSpec{Containers: tc.containers},
			}
			got, err := v1alpha1.GPUContainer(pod)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("GPUContainer() = %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}
