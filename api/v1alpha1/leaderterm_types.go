// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// LeaderTermName is the name of the only LeaderTerm, and of the policy that compares Bindings with it.
const (
	LeaderTermName   = "berth-scheduler"
	LeaderTermPolicy = "berth-leader-term"
)

// AnnotationBoundBy names the scheduler process that bound a pod. It comes with the Binding, where the apiserver compares
// it with the LeaderTerm, and it stays on the pod.
const AnnotationBoundBy = GroupName + "/bound-by"

// LeaderTerm names the scheduler process whose Bindings the apiserver accepts. Each new leader writes it before its first
// Binding; a Binding of an older leader, sent late or delivered late, is refused by the policy berth-leader-term.
//
// It is a kind of its own, and not the Lease or a ConfigMap: for the parameter of a policy the apiserver watches all
// objects of its kind.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Holder",type=string,JSONPath=`.spec.holder`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type LeaderTerm struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is who leads.
	// +required
	Spec LeaderTermSpec `json:"spec"`
}

// LeaderTermSpec is what a LeaderTerm says.
type LeaderTermSpec struct {
	// holder is the identity, in the Lease of the leader election, of the process that leads.
	// +required
	// +kubebuilder:validation:MinLength=1
	Holder string `json:"holder"`
}

// LeaderTermList is a list of LeaderTerms.
//
// +kubebuilder:object:root=true
type LeaderTermList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LeaderTerm `json:"items"`
}
