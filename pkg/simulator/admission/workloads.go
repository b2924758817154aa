// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// simulatedHash stands for the hash of a Deployment's template, which only its controller knows.
const simulatedHash = "simulated"

// errNoPods is why a manifest says nothing about pods.
var errNoPods = errors.New("has no pods")

// PodsOf returns the pods that the controllers would make of an object of a manifest, with names that tell which one is
// which: they are not those that the cluster would choose. With them come the claims of volumes that a StatefulSet makes
// for each of its pods. A DaemonSet's pods depend on the nodes, so there are none of it here.
func PodsOf(obj runtime.Object, namespace string) ([]*corev1.Pod, []*corev1.PersistentVolumeClaim, error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, nil, err
	}
	if accessor.GetNamespace() != "" {
		namespace = accessor.GetNamespace()
	}
	name := accessor.GetName()
	if name == "" {
		name = accessor.GetGenerateName() + "0"
	}
	many := func(kind string, template *corev1.PodTemplateSpec, replicas *int32) []*corev1.Pod {
		var pods []*corev1.Pod
		for i := range ptr.Deref(replicas, 1) {
			pod := fromTemplate(template, namespace, fmt.Sprintf("%s-%d", name, i))
			pod.OwnerReferences = []metav1.OwnerReference{controllerRef(kind, name)}
			pods = append(pods, pod)
		}
		return pods
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		pod := o.DeepCopy()
		pod.Namespace, pod.Name = namespace, name
		pod.UID, pod.ResourceVersion, pod.Status = "", "", corev1.PodStatus{}
		return []*corev1.Pod{pod}, nil, nil
	case *appsv1.Deployment:
		pods := many("ReplicaSet", &o.Spec.Template, o.Spec.Replicas)
		for _, pod := range pods {
			pod.Labels = maps.Clone(pod.Labels)
			if pod.Labels == nil {
				pod.Labels = map[string]string{}
			}
			pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = simulatedHash
			pod.OwnerReferences = []metav1.OwnerReference{controllerRef("ReplicaSet", name+"-"+simulatedHash)}
		}
		return pods, nil, nil
	case *appsv1.ReplicaSet:
		return many("ReplicaSet", &o.Spec.Template, o.Spec.Replicas), nil, nil
	case *appsv1.StatefulSet:
		pods := many("StatefulSet", &o.Spec.Template, o.Spec.Replicas)
		return pods, claimsOf(pods, o.Spec.VolumeClaimTemplates), nil
	case *corev1.ReplicationController:
		if o.Spec.Template == nil {
			return nil, nil, errNoPods
		}
		return many("ReplicationController", o.Spec.Template, o.Spec.Replicas), nil, nil
	case *batchv1.Job:
		return many("Job", &o.Spec.Template, atOnce(&o.Spec)), nil, nil
	case *batchv1.CronJob:
		return many("Job", &o.Spec.JobTemplate.Spec.Template, atOnce(&o.Spec.JobTemplate.Spec)), nil, nil
	case *LeaderWorkerSet:
		pods, claims := o.pods(namespace)
		return pods, claims, nil
	}
	return nil, nil, errNoPods
}

// atOnce is how many pods of a Job there are at a time.
func atOnce(job *batchv1.JobSpec) *int32 {
	n := ptr.Deref(job.Parallelism, 1)
	if job.Completions != nil {
		n = min(n, *job.Completions)
	}
	return &n
}

// claimsOf gives pods the volumes of the templates of claims, and returns the claims.
func claimsOf(pods []*corev1.Pod, templates []corev1.PersistentVolumeClaim) (claims []*corev1.PersistentVolumeClaim) {
	for _, pod := range pods {
		for i := range templates {
			claim := templates[i].DeepCopy()
			volume := corev1.Volume{Name: claim.Name}
			claim.Namespace, claim.Name = pod.Namespace, claim.Name+"-"+pod.Name
			volume.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}
			pod.Spec.Volumes = append(slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume.Name }), volume)
			claims = append(claims, claim)
		}
	}
	return claims
}

// HasNoPods says whether an error of PodsOf means that the object is of a kind without pods.
func HasNoPods(err error) bool { return errors.Is(err, errNoPods) }

func fromTemplate(t *corev1.PodTemplateSpec, namespace, name string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *t.ObjectMeta.DeepCopy(), Spec: *t.Spec.DeepCopy()}
	pod.Namespace, pod.Name = namespace, name
	return pod
}

func controllerRef(kind, name string) metav1.OwnerReference {
	return metav1.OwnerReference{Kind: kind, Name: name, UID: types.UID("sim-" + kind + "-" + name), Controller: ptr.To(true)}
}
