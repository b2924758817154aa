// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
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
		{"a CronJob makes a Job", &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template, Parallelism: ptr.To[int32](2)}}}}, []string{"w-0", "w-1"}},
		{"a LeaderWorkerSet of two groups of two", leaderWorkerSet(2, 2), []string{"w-0", "w-0-1", "w-1", "w-1-1"}},
		{"a StatefulSet whose pods have volumes", &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: template, VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "models"}}}}}, []string{"w-0", "models-w-0"}},
		{"a Deployment of none", &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: template, Replicas: ptr.To[int32](0)}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pods, claims, err := PodsOf(tt.obj, "here")
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
			for i, claim := range claims {
				names = append(names, claim.Name)
				if v := pods[i].Spec.Volumes; len(v) != 1 || v[0].Name != "models" || v[0].PersistentVolumeClaim.ClaimName != claim.Name || claim.Namespace != "here" {
					t.Errorf("volumes %+v of claim %s/%s", v, claim.Namespace, claim.Name)
				}
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("%v, want %v", names, tt.want)
			}
		})
	}
	if _, _, err := PodsOf(&corev1.Service{}, "here"); !HasNoPods(err) {
		t.Errorf("a Service: %v", err)
	}
}

// leaderWorkerSet returns one whose leaders have a container of another name than its workers.
func leaderWorkerSet(replicas, size int32) *LeaderWorkerSet {
	l := &LeaderWorkerSet{ObjectMeta: metav1.ObjectMeta{Name: "w"}}
	l.Spec.Replicas, l.Spec.LeaderWorkerTemplate.Size = &replicas, &size
	l.Spec.LeaderWorkerTemplate.LeaderTemplate = &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "leader"}}}}
	l.Spec.LeaderWorkerTemplate.WorkerTemplate.Spec.Containers = []corev1.Container{{Name: "worker"}}
	return l
}

func TestLeadersAndWorkersHaveTheirOwnTemplates(t *testing.T) {
	pods, _, err := PodsOf(leaderWorkerSet(1, 3), "here")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"leader", "worker", "worker"} {
		if got := pods[i].Spec.Containers[0].Name; got != want || pods[i].Labels["leaderworkerset.sigs.k8s.io/worker-index"] != strconv.Itoa(i) {
			t.Errorf("pod %s has container %s and labels %v", pods[i].Name, got, pods[i].Labels)
		}
	}
}

// TestNewClaimsOfVolumes get the default class, and those of the cluster stay as they are.
func TestNewClaimsOfVolumes(t *testing.T) {
	isDefault := map[string]string{standardClass: "true"}
	own, old, new := &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaim{}
	own.Spec.StorageClassName, old.ResourceVersion = ptr.To(""), "7"
	objects := []runtime.Object{
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "c", Annotations: isDefault}},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "b", Annotations: isDefault}}, own, old, new,
	}
	a, err := New(objects)
	if err != nil {
		t.Fatal(err)
	}
	a.Claims(objects)
	if got := ptr.Deref(new.Spec.StorageClassName, "none"); got != "b" || *own.Spec.StorageClassName != "" || old.Spec.StorageClassName != nil {
		t.Errorf("new: %s, own: %q, old: %v", got, *own.Spec.StorageClassName, old.Spec.StorageClassName)
	}
}
