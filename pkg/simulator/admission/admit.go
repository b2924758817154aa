// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"maps"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
)

// Admitter is the admission of one cluster.
type Admitter struct {
	policies   []*policy
	priorities map[string]*schedulingv1.PriorityClass
	standard   *schedulingv1.PriorityClass // of pods that name none; nil = 0
	classes    map[string]*nodev1.RuntimeClass
	storage    *storagev1.StorageClass // of claims that name none; nil = none
}

// New returns the admission of a cluster that has the objects given. If its policies are not among them, they are taken to
// be those that are shipped.
func New(objects []runtime.Object) (*Admitter, error) {
	a := &Admitter{priorities: map[string]*schedulingv1.PriorityClass{}, classes: map[string]*nodev1.RuntimeClass{}}
	var policies []*admissionv1.MutatingAdmissionPolicy
	for _, obj := range objects {
		switch o := obj.(type) {
		case *schedulingv1.PriorityClass:
			a.priorities[o.Name] = o
			if o.GlobalDefault && (a.standard == nil || o.Value < a.standard.Value) {
				a.standard = o
			}
		case *nodev1.RuntimeClass:
			a.classes[o.Name] = o
		case *storagev1.StorageClass:
			a.standardStorage(o)
		case *admissionv1.MutatingAdmissionPolicy:
			policies = append(policies, o)
		}
	}
	if len(policies) == 0 {
		var err error
		if policies, err = Shipped(); err != nil {
			return nil, err
		}
	}
	for _, p := range policies {
		if !isForNewPods(p) {
			continue
		}
		compiled, err := compile(p)
		if err != nil {
			return nil, err
		}
		a.policies = append(a.policies, compiled)
	}
	return a, nil
}

// Admit returns a pod as the apiserver would store it, without what makes it one of its kind (name, UID).
func (a *Admitter) Admit(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	pod = pod.DeepCopy()
	corev1defaults.SetObjectDefaults_Pod(pod)
	if err := a.setPriority(pod); err != nil {
		return nil, err
	}
	for _, p := range a.policies {
		var err error
		if pod, err = p.apply(ctx, pod); err != nil {
			return nil, err
		}
	}
	corev1defaults.SetObjectDefaults_Pod(pod) // of what the policies added
	a.setRuntimeClass(pod)
	return pod, nil
}

// setPriority does what the admission plugin Priority does.
func (a *Admitter) setPriority(pod *corev1.Pod) error {
	class := a.standard
	if name := pod.Spec.PriorityClassName; name != "" {
		if class = a.priorities[name]; class == nil {
			return fmt.Errorf("no PriorityClass with name %s was found", name)
		}
	}
	var value int32
	if class != nil {
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if pod.Spec.PreemptionPolicy == nil {
			pod.Spec.PreemptionPolicy = class.PreemptionPolicy
		}
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name",
			*pod.Spec.Priority, value)
	}
	pod.Spec.Priority = &value
	if pod.Spec.PreemptionPolicy == nil {
		lower := corev1.PreemptLowerPriority
		pod.Spec.PreemptionPolicy = &lower
	}
	return nil
}

// setRuntimeClass does what the admission plugin RuntimeClass does. A class that is not there is for the scheduler to
// tell of.
func (a *Admitter) setRuntimeClass(pod *corev1.Pod) {
	if pod.Spec.RuntimeClassName == nil {
		return
	}
	class := a.classes[*pod.Spec.RuntimeClassName]
	if class == nil {
		return
	}
	if class.Overhead != nil {
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling != nil {
		selector := maps.Clone(class.Scheduling.NodeSelector)
		if len(selector) > 0 {
			maps.Copy(selector, pod.Spec.NodeSelector)
			pod.Spec.NodeSelector = selector
		}
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, class.Scheduling.Tolerations...)
	}
}

const (
	// Which StorageClass is the default one, by its annotations (kubernetes, pkg/volume/util/storageclass.go).
	standardClass     = "storageclass.kubernetes.io/is-default-class"
	betaStandardClass = "storageclass.beta.kubernetes.io/is-default-class"
)

// standardStorage finds the default class as the admission plugin DefaultStorageClass does: the newest, then by name.
func (a *Admitter) standardStorage(c *storagev1.StorageClass) {
	if c.Annotations[standardClass] != "true" && c.Annotations[betaStandardClass] != "true" {
		return
	}
	if old := a.storage; old == nil || old.CreationTimestamp.Before(&c.CreationTimestamp) ||
		old.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < old.Name {
		a.storage = c
	}
}

// Claims gives the new claims of volumes among objects, which have no version yet, what admission adds to them.
func (a *Admitter) Claims(objects []runtime.Object) {
	for _, obj := range objects {
		claim, ok := obj.(*corev1.PersistentVolumeClaim)
		if !ok || claim.ResourceVersion != "" {
			continue
		}
		if claim.Spec.StorageClassName == nil && claim.Annotations[corev1.BetaStorageClassAnnotation] == "" && a.storage != nil {
			claim.Spec.StorageClassName = &a.storage.Name
		}
		corev1defaults.SetDefaults_PersistentVolumeClaim(claim)
	}
}
