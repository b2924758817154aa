// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// TestAdmit is about what each part of the admission does; a test of the manifests compares it with an apiserver.
func TestAdmit(t *testing.T) {
	a, err := New([]runtime.Object{
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 9},
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "usual"}, Value: 3, GlobalDefault: true},
		&nodev1.RuntimeClass{
			ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia",
			Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"gpus": "yes"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	pod := bt.MakePod("p").Memory("30Gi").NoReference().Obj()
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
	got, err := a.Admit(t.Context(), pod)
	switch {
	case err != nil:
		t.Fatal(err)
	case !gpustate.HasReference(got) || got.Labels[berthv1alpha1.LabelAllocated] != "false":
		t.Errorf("the policies were not applied: %+v", got)
	case *got.Spec.Priority != 3 || got.Spec.PriorityClassName != "usual":
		t.Errorf("priority %d of class %s", *got.Spec.Priority, got.Spec.PriorityClassName)
	case got.Spec.Overhead.Cpu().MilliValue() != 100 || got.Spec.NodeSelector["gpus"] != "yes":
		t.Errorf("the RuntimeClass was not applied: %+v", got.Spec)
	case got.Spec.Containers[0].Resources.Requests.Cpu().Value() != 2 || got.Spec.RestartPolicy != corev1.RestartPolicyAlways:
		t.Errorf("defaults were not applied: %+v", got.Spec)
	case len(pod.Spec.Containers[0].Env) != 0:
		t.Error("the pod that was given was changed")
	}
	pod.Spec.PriorityClassName = "high"
	if got, err = a.Admit(t.Context(), pod); err != nil || *got.Spec.Priority != 9 {
		t.Errorf("%v, %v", got.Spec.Priority, err)
	}
	pod.Spec.PriorityClassName = "none"
	if _, err := a.Admit(t.Context(), pod); err == nil {
		t.Error("a priority class that is not there was taken")
	}
}

func TestPodsOf(t *testing.T) {
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	meta := metav1.ObjectMeta{Name: "w"}
	tests := []struct {
		name string
		obj  runtime.Object
		want []string
	}{
		{"a pod", &corev1.Pod{ObjectMeta: meta}, []string{"w"}},
		{"a Deployment has one replica by default", &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: template}}, []string{"w-0"}},
		{"a StatefulSet", &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: template, Replicas: ptr.To[int32](2)}}, []string{"w-0", "w-1"}},
		{"a Job runs no more at once than it needs", &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: template, Parallelism: ptr.To[int32](5), Completions: ptr.To[int32](2)}}, []string{"w-0", "w-1"}},
		{"a Deployment of none", &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: template, Replicas: ptr.To[int32](0)}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pods, err := PodsOf(tt.obj, "here")
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range pods {
				names = append(names, p.Name)
				if p.Namespace != "here" {
					t.Errorf("namespace %s", p.Namespace)
				}
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("%v, want %v", names, tt.want)
			}
		})
	}
	if _, err := PodsOf(&corev1.Service{}, "here"); !HasNoPods(err) {
		t.Errorf("a Service: %v", err)
	}
}
