// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
)

// Serving returns a Deployment of a model server that asks by annotations, of which empty ones are left out, for whoever has not
// written one yet. Its container does what Berth asks of one: behind further arguments, the engine is told what it was promised. So
// it is booked as a pod would be that is written by the documentation; what else a server needs is not in it.
func Serving(name string, replicas *int32, annotations map[string]string, args ...string) *appsv1.Deployment {
	asks, labels := map[string]string{}, map[string]string{"app": name}
	for key, value := range annotations {
		if value != "" {
			asks[key] = value
		}
	}
	share := estimator.EngineOf(estimator.Runtime(asks[berthv1alpha1.AnnotationRuntime])).Share
	if share != nil && share.Variable != "" {
		args = append(args, share.Flag+"=$("+share.Variable+")", "--tensor-parallel-size=$("+berthv1alpha1.EnvTensorParallelSize+")")
	}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: asks},
				Spec: corev1.PodSpec{
					SchedulerName: berthv1alpha1.SchedulerName,
					Containers:    []corev1.Container{{Name: "server", Image: "model-server", Args: args}},
				},
			},
		},
	}
}
