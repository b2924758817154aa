// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/berth-dev/berth/api/v1alpha1"
)

func reference() corev1.EnvVar {
	return corev1.EnvVar{Name: v1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['berth.dev/visible-devices']"},
	}}
}

// uuids is the reference to bare UUIDs.
func uuids() corev1.EnvVar {
	e := reference()
	e.ValueFrom.FieldRef.FieldPath = "metadata.annotations['berth.dev/gpu-uuids']"
	return e
}

func TestHasReference(t *testing.T) {
	all := corev1.EnvVar{Name: v1alpha1.EnvVisibleDevices, Value: "all"}
	tests := []struct {
		name string
		env  []corev1.EnvVar
		want bool
		bare bool
	}{
		{"no variables", nil, false, false},
		{"the reference", []corev1.EnvVar{{Name: "A", Value: "b"}, reference()}, true, false},
		{"the reference to bare UUIDs", []corev1.EnvVar{uuids()}, true, true},
		{"both, of which the last counts", []corev1.EnvVar{uuids(), reference()}, true, true},
		{"a value", []corev1.EnvVar{all}, false, false},
		{"a value after the reference overrides it", []corev1.EnvVar{reference(), all}, false, false},
		{"the reference after a value is not relied on", []corev1.EnvVar{all, reference()}, false, false},
		{"another variable from the UUIDs", []corev1.EnvVar{reference(), {Name: "A", ValueFrom: uuids().ValueFrom}}, true, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := &corev1.Container{Env: tc.env}
			if got, bare := v1alpha1.HasReference(c), v1alpha1.WantsUUIDs(c); got != tc.want || bare != tc.bare {
				t.Errorf("HasReference() = %v, WantsUUIDs() = %v, want %v and %v", got, bare, tc.want, tc.bare)
			}
		})
	}
}

func TestGPUContainers(t *testing.T) {
	const kubectlDefault = "kubectl.kubernetes.io/default-container"
	a, b, init := corev1.Container{Name: "a"}, corev1.Container{Name: "b"}, corev1.Container{Name: "init"}
	side := corev1.Container{Name: "side", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}
	with := func(c corev1.Container, env corev1.EnvVar) corev1.Container {
		c.Env = []corev1.EnvVar{env}
		return c
	}
	aRef, bRef := with(a, reference()), with(b, uuids())
	both := []corev1.Container{a, b}
	named := func(names string) map[string]string { return map[string]string{v1alpha1.AnnotationContainer: names} }
	byKubectl := func(name string) map[string]string { return map[string]string{kubectlDefault: name} }
	tests := []struct {
		name        string
		annotations map[string]string
		init        []corev1.Container
		containers  []corev1.Container
		want        string
		says        string // of the error
	}{
		{name: "the only one", containers: []corev1.Container{a}, want: "a"},
		{name: "the only one beside init containers and sidecars", init: []corev1.Container{init, side}, containers: []corev1.Container{a}, want: "a"},
		{name: "the one that the annotation names", annotations: named("b"), containers: both, want: "b"},
		{name: "both that it names, in its order", annotations: named("b,a"), containers: both, want: "b,a"},
		{name: "a sidecar that it names", annotations: named("side"), init: []corev1.Container{side}, containers: []corev1.Container{a}, want: "side"},
		{name: "an init container behind one that stays", annotations: named("a,init"), init: []corev1.Container{init}, containers: []corev1.Container{a}, want: "a,init"},
		{name: "an init container first", annotations: named("init,a"), init: []corev1.Container{init}, containers: []corev1.Container{a}, says: "begin with one of a"},
		{name: "kubectl's default", annotations: byKubectl("b"), containers: both, want: "b"},
		{name: "the annotation before kubectl's default", annotations: map[string]string{v1alpha1.AnnotationContainer: "a", kubectlDefault: "b"}, containers: both, want: "a"},
		{name: "the one with the reference, whatever was injected later", annotations: byKubectl("b"), containers: []corev1.Container{aRef, b}, want: "a"},
		{name: "a sidecar with the reference", init: []corev1.Container{with(side, reference())}, containers: both, want: "side"},
		{name: "an init container with the reference", init: []corev1.Container{with(init, uuids())}, containers: []corev1.Container{aRef}, says: "such as a,init"},
		{name: "an init container with the reference, not among the named", annotations: named("a"), init: []corev1.Container{with(init, reference())}, containers: []corev1.Container{aRef}, says: "write a,init"},
		{name: "of two with the reference, one is named", annotations: named("b"), containers: []corev1.Container{aRef, bRef}, says: "write b,a"},
		{name: "two with the reference, both named", annotations: named("b,a"), containers: []corev1.Container{aRef, bRef}, want: "b,a"},
		{name: "two with the reference and nothing said", containers: []corev1.Container{aRef, bRef}, says: "berth.dev/container: a,b"},
		{name: "kubectl's default is not there, but there is only one", annotations: byKubectl("x"), containers: []corev1.Container{a}, want: "a"},
		{name: "two and nothing said", containers: both, says: "one of a, b"},
		{name: "a name that is none of them", annotations: named("c"), containers: both, says: "one or more of a, b"},
		{name: "no name", annotations: named(""), containers: both, says: "one or more of a, b"},
		{name: "a name twice", annotations: named("a,a"), containers: both, says: "twice"},
		{name: "a name against the reference", annotations: named("b"), containers: []corev1.Container{aRef, b}, says: `container "a"`},
		{name: "no containers at all but an init container, which no apiserver lets be", init: []corev1.Container{with(init, reference())}, says: "such as init"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations},
				Spec:       corev1.PodSpec{InitContainers: tc.init, Containers: tc.containers},
			}
			got, err := v1alpha1.GPUContainers(pod)
			if strings.Join(got, ",") != tc.want || (err == nil) != (tc.says == "") {
				t.Fatalf("GPUContainers() = %q, %v, want %q", got, err, tc.want)
			}
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %q does not say %q", err, tc.says)
			}
		})
	}
}
