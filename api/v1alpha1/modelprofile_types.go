// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/model"
)

// ModelProfile is what is known of one model's memory: what its files say, and what agents measured while it ran.
// The controller makes one for each model that a pending pod names and deletes it when it was not used for long; a
// profile without the label LabelManagedBy was made by an admin and is never deleted.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mp,categories=berth
// +kubebuilder:printcolumn:name="Model",type=string,JSONPath=`.spec.source`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ModelProfile struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is which model it is.
	// +required
	Spec ModelProfileSpec `json:"spec"`
	// status is written by the controller.
	// +optional
	Status ModelProfileStatus `json:"status,omitzero"`
}

// ModelProfileList is a list of ModelProfiles.
//
// +kubebuilder:object:root=true
type ModelProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModelProfile `json:"items"`
}

// ModelProfileSpec is which model it is.
type ModelProfileSpec struct {
	// source is the URI that pods name in berth.dev/model: hf://org/repo[@revision][/file],
	// ollama://name[:tag], https://…, file://….
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a profile is of one model for good; make another profile"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('profile://')",message="a profile must name the model itself (hf://, ollama://, https:// or file://), not another profile"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[?#]|^([A-Za-z][A-Za-z0-9+.-]*://)?[^/]*@')",message="a model's URI is shown to others, so it holds neither a ?query nor a #fragment nor a user",reason=FieldValueForbidden
	Source string `json:"source"`
	// peaksFrom are namespaces whose measurements count for pods of all namespaces, where nothing was measured in a pod's
	// own. An admin writes them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	PeaksFrom []string `json:"peaksFrom,omitempty"`
}

// ModelProfileStatus is what is known of the model.
type ModelProfileStatus struct {
	// conditions holds Ready: True once model is known, else the reason why it is not.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// observedGeneration is the generation of the spec that the rest is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// revision names, for people, the version that was read: a commit, a manifest digest, an ETag.
	// +optional
	Revision string `json:"revision,omitempty"`
	// etag is a fingerprint of the model's files: model and observedPeaks hold as long as it stays the same.
	// +optional
	ETag string `json:"etag,omitempty"`
	// revisionTime is when etag last changed, absent as long as it never did. Pods that started earlier may run the
	// files as they were before, so what is measured of them is not taken down.
	// +optional
	RevisionTime *metav1.Time `json:"revisionTime,omitempty"`
	// size is the size of the model's files, for people: "145.5Gi". model.fileSize has the bytes.
	// +optional
	Size string `json:"size,omitempty"`
	// model is what the estimator needs of the model; nothing is booked by a profile without it.
	// +optional
	Model *model.Model `json:"model,omitempty"`
	// observedPeaks is what agents measured of pods that ran this model, latest first. What was measured in one namespace
	// counts in no other, but for those of spec.peaksFrom.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ObservedPeaks []ObservedPeak `json:"observedPeaks,omitempty"`
	// lastAttemptTime is when the controller last began to look the model up.
	// +optional
	LastAttemptTime *metav1.Time `json:"lastAttemptTime,omitempty"`
	// unfinishedAttempts is the number of attempts in a row of which no end is known. It is written before an attempt
	// begins: a model that ends the controller is not tried again at once by the next one.
	// +optional
	UnfinishedAttempts int32 `json:"unfinishedAttempts,omitempty"`
	// lastUsedTime is when a pod last named the model, to within the hour.
	// +optional
	LastUsedTime *metav1.Time `json:"lastUsedTime,omitempty"`
}

// ObservedPeak is the most memory that the latest pods of a namespace, of one engine with the same settings and GPU
// count, were measured to hold while they were Ready.
type ObservedPeak struct {
	// namespace is that of the pods. Entries that an older controller wrote have none, and count nowhere.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// settings are the engine and how it was told to run the model.
	// +required
	Settings model.Settings `json:"settings"`
	// gpuCount is the number of GPUs that the model was spread over.
	// +required
	// +kubebuilder:validation:Minimum=1
	GPUCount int32 `json:"gpuCount"`
	// devices is the peak of each GPU over all runs in bytes, largest first; as many as gpuCount.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Devices []resource.Quantity `json:"devices"`
	// excess is the most, in bytes, that a GPU was measured to hold beyond what was booked by the estimate alone, over all runs; zero
	// if none did. Of an engine that fills whatever it is booked (vLLM), this, and not the peak, says what an estimate lacks.
	// +optional
	Excess resource.Quantity `json:"excess,omitzero"`
	// samples is the number of pods that were measured since the entry was made.
	// +required
	Samples int32 `json:"samples"`
	// lastTime is when the entry last changed.
	// +required
	LastTime metav1.Time `json:"lastTime"`
	// runs are the latest pods that were measured, newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	Runs []MeasuredRun `json:"runs,omitempty"`
}

// MeasuredRun is the most memory that one pod was measured to hold.
type MeasuredRun struct {
	// podUID is the UID of the pod.
	// +required
	PodUID types.UID `json:"podUID"`
	// created is when the apiserver made the pod.
	// +required
	Created metav1.Time `json:"created"`
	// devices is the peak of each GPU in bytes, largest first.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Devices []resource.Quantity `json:"devices"`
	// excess is the most, in bytes, that a GPU was measured to hold beyond what was booked by the estimate alone.
	// +optional
	Excess resource.Quantity `json:"excess,omitzero"`
}

const (
	// ConditionReady of a ModelProfile is True once its model is known.
	ConditionReady = "Ready"
	// LabelManagedBy marks, with value "berth-controller" (ManagedByController), the objects that the controller made and
	// may delete.
	LabelManagedBy      = "app.kubernetes.io/managed-by"
	ManagedByController = "berth-controller"
	// LabelMadeFor is the namespace of the pod that the controller made a profile for.
	LabelMadeFor = GroupName + "/made-for"
)

// Reasons of a ModelProfile's Ready condition. docs/models.md says what to do about each.
const (
	// ProfileResolved: the model is known.
	ProfileResolved = "Resolved"
	// ProfileResolving: the source has not answered yet.
	ProfileResolving = "Resolving"
	// ProfileNotFound: the source says that there is no such model, revision or file.
	ProfileNotFound = "NotFound"
	// ProfileUnauthorized: the source wants a token, or refused the one it was shown.
	ProfileUnauthorized = "Unauthorized"
	// ProfileUnsupported: the URI, its host or the model's format is not one that Berth reads.
	ProfileUnsupported = "Unsupported"
	// ProfileUnreachable: the source did not answer, or asked to come back later; it is asked again.
	ProfileUnreachable = "Unreachable"
	// ProfileBadFile: what the source sent is not a whole, well-formed model file.
	ProfileBadFile = "BadFile"
)

// ReadyCondition returns the Ready condition, nil before the controller first saw the profile.
func (p *ModelProfile) ReadyCondition() *metav1.Condition {
	return meta.FindStatusCondition(p.Status.Conditions, ConditionReady)
}

// IsReady says whether the model is known. It is whatever the generation: the source never changes, and what else an
// admin writes into the spec does not make it unknown.
func (p *ModelProfile) IsReady() bool {
	return p.Status.Model != nil && meta.IsStatusConditionTrue(p.Status.Conditions, ConditionReady)
}
