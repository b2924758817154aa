// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gpunode reads GPUNodes one at a time. A list, or a watch, of the type itself is decoded as a whole: one status
// that the apiserver lets pass and Go does not read ends it for all nodes. So an informer lists Objects, whose status
// comes as bytes, and its transform decodes each by itself. An object that cannot be decoded has a Problem, and its
// node has no report.
package gpunode

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Object is a GPUNode whose status is decoded apart from it.
type Object struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Raw is the status as it came; nil once Decode is done with it.
	Raw json.RawMessage `json:"status,omitempty"`
	// Status is what Decode read; nil before, and when there is a Problem.
	Status *berthv1alpha1.GPUNodeStatus `json:"-"`
	// Problem says why the status cannot be read; empty when it can.
	Problem string `json:"-"`
}

// List is a list of Objects.
type List struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Object `json:"items"`
}

// maxProblem bounds, in bytes, what is told of bytes that somebody else wrote.
const maxProblem = 256

// Decode reads the status, unless that was done before.
func (o *Object) Decode() {
	if o.Status != nil || o.Problem != "" {
		return
	}
	status, err := decodeStatus(o.Raw)
	o.Raw = nil
	if err == nil {
		o.Status = status
		return
	}
	o.Problem = err.Error()
	if len(o.Problem) > maxProblem {
		o.Problem = strings.ToValidUTF8(o.Problem[:maxProblem], "") + "..."
	}
}

// GPUNode returns the object as the type of the API, or nil when there is a Problem. It shares the status.
func (o *Object) GPUNode() *berthv1alpha1.GPUNode {
	if o.Status == nil {
		return nil
	}
	return &berthv1alpha1.GPUNode{TypeMeta: o.TypeMeta, ObjectMeta: o.ObjectMeta, Status: *o.Status}
}

// Transform is for informers of Objects: it decodes each, and drops the field managers, which are most of a small object
// and which nobody reads. It never fails: an error would stop the informer.
func Transform(obj any) (any, error) {
	if o, ok := obj.(*Object); ok {
		o.ManagedFields = nil
		o.Decode()
	}
	return obj, nil
}

// DeepCopyObject implements runtime.Object.
func (o *Object) DeepCopyObject() runtime.Object {
	out := *o
	out.ObjectMeta = *o.ObjectMeta.DeepCopy()
	out.Raw = slices.Clone(o.Raw)
	out.Status = o.Status.DeepCopy()
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *List) DeepCopyObject() runtime.Object {
	out := *l
	out.ListMeta = *l.ListMeta.DeepCopy()
	out.Items = make([]Object, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*Object)
	}
	return &out
}

// AddToScheme adds Berth's types to a scheme, with Objects in the place of GPUNodes. A scheme has one type for a kind, so
// that whoever uses it cannot decode GPUNodes together by mistake.
func AddToScheme(scheme *runtime.Scheme) error {
	all := runtime.NewScheme()
	if err := berthv1alpha1.AddToScheme(all); err != nil {
		return err
	}
	types := all.KnownTypes(berthv1alpha1.GroupVersion)
	for _, kind := range slices.Sorted(maps.Keys(types)) {
		gvk := berthv1alpha1.GroupVersion.WithKind(kind)
		if kind == Kind || kind == Kind+"List" || !strings.HasPrefix(types[kind].PkgPath(), "github.com/berth-dev/berth/") {
			continue
		}
		obj, err := all.New(gvk)
		if err != nil {
			return err
		}
		scheme.AddKnownTypeWithName(gvk, obj)
	}
	scheme.AddKnownTypeWithName(berthv1alpha1.GroupVersion.WithKind(Kind), &Object{})
	scheme.AddKnownTypeWithName(berthv1alpha1.GroupVersion.WithKind(Kind+"List"), &List{})
	metav1.AddToGroupVersion(scheme, berthv1alpha1.GroupVersion)
	return nil
}

// Kind is the kind of a GPUNode.
const Kind = "GPUNode"
