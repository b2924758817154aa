// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/internal/podcases"
	"github.com/berth-dev/berth/pkg/simulator/admission"
)

// TestSimulatedAdmissionIsTheApiservers: what kubectl berth what-if makes of a manifest is what the apiserver stores, but for
// what the admission of service accounts and of tolerations adds, which decides nothing about GPUs.
func TestSimulatedAdmissionIsTheApiservers(t *testing.T) {
	client := needCluster(t).admin
	classes, err := client.NodeV1().RuntimeClasses().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	priorities, err := client.SchedulingV1().PriorityClasses().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var objects []runtime.Object
	for i := range classes.Items {
		objects = append(objects, &classes.Items[i])
	}
	for i := range priorities.Items {
		objects = append(objects, &priorities.Items[i])
	}
	admitter, err := admission.New(objects)
	if err != nil {
		t.Fatal(err)
	}
	cases := podcases.All()
	for _, p := range priorities.Items {
		pod := cases[0].Pod.DeepCopy()
		pod.Spec.PriorityClassName = p.Name
		cases = append(cases, podcases.Case{Name: "priority " + p.Name, Pod: pod})
	}
	compared := 0
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			want, err := client.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), tc.Pod.DeepCopy(), dryRun)
			if err != nil {
				t.Skip("refused")
			}
			pod := tc.Pod.DeepCopy()
			pod.Namespace = metav1.NamespaceDefault
			got, err := admitter.Admit(t.Context(), pod)
			if err != nil {
				t.Fatal(err)
			}
			compared++
			for _, p := range []*corev1.Pod{want, got} {
				stripAccount(p)
			}
			if diff := cmp.Diff(want.Spec, got.Spec, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("spec (-apiserver +simulated)\n%s", diff)
			}
			if diff := cmp.Diff(want.Labels, got.Labels, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("labels (-apiserver +simulated)\n%s", diff)
			}
			if diff := cmp.Diff(want.Annotations, got.Annotations, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("annotations (-apiserver +simulated)\n%s", diff)
			}
		})
	}
	if compared < 50 {
		t.Errorf("only %d pods were compared", compared)
	}
}

// stripAccount takes off what the admission of service accounts and of tolerations adds.
func stripAccount(pod *corev1.Pod) {
	pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = "", ""
	isToken := func(name string) bool { return strings.HasPrefix(name, "kube-api-access-") }
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return isToken(v.Name) })
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].VolumeMounts = slices.DeleteFunc(containers[i].VolumeMounts, func(m corev1.VolumeMount) bool { return isToken(m.Name) })
		}
	}
	pod.Spec.Tolerations = slices.DeleteFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.Effect == corev1.TaintEffectNoExecute && t.TolerationSeconds != nil
	})
}
