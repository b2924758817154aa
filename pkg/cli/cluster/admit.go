// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// fieldManager is who asks.
const fieldManager = "kubectl-berth"

// Admission asks a cluster what it makes of new objects: each request is a dry run, by which an apiserver stores nothing.
type Admission struct {
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	mapper  meta.RESTMapper
}

// NewAdmission returns the admission of a cluster, whose kinds the mapper knows.
func NewAdmission(config *rest.Config, mapper meta.RESTMapper) (*Admission, error) {
	a := &Admission{mapper: mapper}
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeJSON // in which both clients can write
	var err error
	if a.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	a.dynamic, err = dynamic.NewForConfig(config)
	return a, err
}

// Object returns an object as the cluster would store it. One that exists already is changed as by kubectl apply --server-side.
func (a *Admission) Object(ctx context.Context, object *unstructured.Unstructured, namespace string) (*unstructured.Unstructured, error) {
	gvk := object.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if object.GetNamespace() != "" {
		namespace = object.GetNamespace()
	}
	client := a.dynamic.Resource(mapping.Resource).Namespace(namespace)
	all := []string{metav1.DryRunAll}
	admitted, err := client.Create(ctx, object, metav1.CreateOptions{DryRun: all, FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict})
	if apierrors.IsAlreadyExists(err) {
		object = object.DeepCopy()
		object.SetManagedFields(nil)
		admitted, err = client.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{DryRun: all, FieldManager: fieldManager, Force: true})
	}
	return admitted, refused(strings.ToLower(gvk.Kind)+" "+namespace+"/"+object.GetName(), err)
}

// Pod returns a pod as the cluster would store it, but for what makes it one of its kind. A pod of a controller is asked
// about under a name that the cluster chooses, and without the controller, which need not be there.
func (a *Admission) Pod(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	asked := pod.DeepCopy()
	if asked.OwnerReferences = nil; metav1.GetControllerOf(pod) != nil {
		asked.GenerateName, asked.Name = pod.Name+"-", ""
	}
	admitted, err := a.kube.CoreV1().Pods(pod.Namespace).Create(ctx, asked, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: fieldManager, FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		return nil, refused("pod "+pod.Namespace+"/"+pod.Name, err)
	}
	admitted.Name, admitted.GenerateName, admitted.OwnerReferences = pod.Name, pod.GenerateName, pod.OwnerReferences
	admitted.UID, admitted.ResourceVersion, admitted.CreationTimestamp, admitted.ManagedFields = "", "", metav1.Time{}, nil
	admitted.Status = corev1.PodStatus{}
	return admitted, nil
}

// refused says of which object an error is.
func refused(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%s exists already: give the new one another name (%w)", what, err)
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err):
		return fmt.Errorf("%s would be refused: %w", what, err)
	}
	return fmt.Errorf("ask the cluster to admit %s: %w", what, err)
}
