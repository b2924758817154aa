// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpumodel"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// ByName returns the object of a kind that has a namespace ("" = none) and a name; nil if there is none.
func byName[T interface {
	comparable
	metav1.Object
}](s *Snapshot, namespace, name string) (none T) {
	for _, obj := range s.Objects {
		if o, ok := obj.(T); ok && o.GetNamespace() == namespace && o.GetName() == name {
			return o
		}
	}
	return none
}

// TakeForAlive says that all agents were alive when the snapshot was taken.
func (s *Snapshot) TakeForAlive() {
	at := metav1.NewMicroTime(s.Time)
	for _, obj := range slices.Clone(s.Objects) {
		if o, ok := obj.(*gpunode.Object); ok && byName[*coordinationv1.Lease](s, berthv1alpha1.Namespace, o.Name) == nil {
			s.Objects = append(s.Objects, leaseOf(o.Name, at))
		}
	}
}

func leaseOf(node string, renewed metav1.MicroTime) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: berthv1alpha1.Namespace, Name: node}, Spec: coordinationv1.LeaseSpec{RenewTime: &renewed},
	}
}

// Add adds an object, unless there is one of its kind and name.
func (s *Snapshot) Add(obj runtime.Object) error {
	added, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	for _, other := range s.Objects {
		if reflect.TypeOf(other) != reflect.TypeOf(obj) {
			continue
		}
		if o, err := meta.Accessor(other); err == nil && o.GetNamespace() == added.GetNamespace() && o.GetName() == added.GetName() {
			return nil
		}
	}
	if added.GetUID() == "" {
		added.SetUID(types.UID("sim-" + added.GetNamespace() + "-" + added.GetName()))
	}
	s.Objects = append(s.Objects, obj)
	return nil
}

// Without takes a pod away, with the memory that its processes hold.
func (s *Snapshot) Without(namespace, name string) error {
	pod := byName[*corev1.Pod](s, namespace, name)
	if pod == nil {
		return fmt.Errorf("there is no pod %s/%s", namespace, name)
	}
	s.take(pod)
	return nil
}

// Pod returns a pod, or nil.
func (s *Snapshot) Pod(namespace, name string) *corev1.Pod {
	return byName[*corev1.Pod](s, namespace, name)
}

// Anew takes a pod from its node, for it to be placed again.
func (s *Snapshot) Anew(pod *corev1.Pod) {
	s.take(pod)
	s.Objects = append(s.Objects, anew(pod))
}

func (s *Snapshot) take(pod *corev1.Pod) {
	s.Objects = slices.DeleteFunc(s.Objects, func(obj runtime.Object) bool {
		claim, ok := obj.(*resourcev1.ResourceClaim)
		return obj == runtime.Object(pod) || ok && leave(claim, pod)
	})
	for _, obj := range s.Objects {
		if o, ok := obj.(*gpunode.Object); ok && o.Status != nil {
			release(o.Status, pod.UID)
		}
	}
}

// Cordon keeps new pods off a node.
func (s *Snapshot) Cordon(node string) error {
	n := byName[*corev1.Node](s, "", node)
	if n == nil {
		return fmt.Errorf("there is no node %q", node)
	}
	n.Spec.Unschedulable = true
	unschedulable := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&unschedulable) }) {
		n.Spec.Taints = append(n.Spec.Taints, unschedulable) // as the node controller does
	}
	return nil
}

// CordonGPU keeps new pods off one GPU of a node, given by its UUID or its index; those that are on it stay.
func (s *Snapshot) CordonGPU(node, gpu string) error {
	n, o := byName[*corev1.Node](s, "", node), byName[*gpunode.Object](s, "", node)
	if n == nil || o == nil || o.Status == nil {
		return fmt.Errorf("there is no node %q with a readable GPUNode", node)
	}
	d, err := o.Status.Find(gpu)
	if err != nil {
		return fmt.Errorf("node %s has %w", node, err)
	}
	if n.Annotations == nil {
		n.Annotations = map[string]string{}
	}
	n.Annotations[berthv1alpha1.AnnotationCordonedGPUs] = berthv1alpha1.CordonedGPUs(n, []string{d.UUID}, nil)
	return nil
}

// Drain cordons a node and takes its pods away, as kubectl drain does once they are gone. It returns the pods that have
// to find a place elsewhere: all but those of DaemonSets and static ones, which stay.
func (s *Snapshot) Drain(node string) ([]*corev1.Pod, error) {
	if err := s.Cordon(node); err != nil {
		return nil, err
	}
	var displaced []*corev1.Pod
	for _, obj := range slices.Clone(s.Objects) {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Spec.NodeName != node {
			continue
		}
		owner := metav1.GetControllerOf(pod)
		_, static := pod.Annotations[corev1.MirrorPodAnnotationKey]
		if static || owner != nil && owner.Kind == "DaemonSet" {
			continue
		}
		s.take(pod)
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil {
			continue
		}
		displaced = append(displaced, anew(pod))
	}
	sortByAge(displaced)
	return displaced, nil
}

// writtenOnce are annotations that a pod gets when it is placed.
var writtenOnce = []string{
	berthv1alpha1.AnnotationAllocation, berthv1alpha1.AnnotationGPUUUIDs, berthv1alpha1.AnnotationVisibleDevices,
	berthv1alpha1.AnnotationTensorParallelSize, berthv1alpha1.AnnotationTensorSplit, berthv1alpha1.AnnotationGPUMemoryUtilization,
	berthv1alpha1.AnnotationBoundBy,
}

// anew returns a pod as its controller would make it again, under its old name.
func anew(pod *corev1.Pod) *corev1.Pod {
	next := pod.DeepCopy()
	next.UID, next.ResourceVersion, next.Status = types.UID("sim-anew-"+string(pod.UID)), "", corev1.PodStatus{}
	next.Spec.NodeName = ""
	for _, key := range writtenOnce {
		delete(next.Annotations, key)
	}
	maps.DeleteFunc(next.Annotations, func(key, _ string) bool { return strings.HasPrefix(key, berthv1alpha1.NRIAnnotationPrefix) })
	if _, ok := next.Labels[berthv1alpha1.LabelAllocated]; ok {
		next.Labels[berthv1alpha1.LabelAllocated] = "false"
	}
	return next
}

// Shape is a kind of node: so many GPUs of a model.
type Shape struct {
	Model *gpumodel.Model
	GPUs  int
}

// ParseShape reads "h100-80x8".
func ParseShape(text string) (Shape, error) {
	i := strings.LastIndex(text, "x")
	if i < 0 {
		return Shape{}, fmt.Errorf("%q is no shape of a node, such as h100-80x8", text)
	}
	gpus, err := strconv.Atoi(text[i+1:])
	if err != nil || gpus < 1 || gpus > alloc.MaxDevices {
		return Shape{}, fmt.Errorf("%q is no shape of a node: it needs a number of GPUs from 1 to %d behind the x, as in h100-80x8", text, alloc.MaxDevices)
	}
	model, err := gpumodel.Find(text[:i])
	return Shape{Model: model, GPUs: gpus}, err
}

// AddNodes adds empty nodes of a shape, made after one that has GPUs of the same model if there is any, else after any
// with GPUs: labels, taints, what can be allocated beside GPUs, what its container runtime takes.
func (s *Snapshot) AddNodes(shape Shape, count int) error {
	like, report := s.nodeLike(shape.Model.Name)
	if like == nil {
		return fmt.Errorf("there is no node with GPUs that a new one could be made after: it is not known what the nodes of this cluster are like")
	}
	for i := range count {
		name := fmt.Sprintf("new-%sx%d-%d", strings.ToLower(shape.Model.Short), shape.GPUs, i)
		for byName[*corev1.Node](s, "", name) != nil {
			name += "-x"
		}
		s.AddNode(name, like, report.Status, shape)
	}
	if report == nil || len(report.Status.Devices) == 0 || report.Status.Devices[0].Model != shape.Model.Name {
		s.Notes = append(s.Notes, fmt.Sprintf("no node has GPUs of model %s: new nodes are like %s but for their GPUs", shape.Model.Name, like.Name))
	}
	return nil
}

// nodeLike returns the first node, by name, that has GPUs of a model; else the first with any GPUs.
func (s *Snapshot) nodeLike(model string) (like *corev1.Node, report *gpunode.Object) {
	same := false
	for _, obj := range s.Objects {
		o, ok := obj.(*gpunode.Object)
		if !ok || o.Status == nil || len(o.Status.Devices) == 0 {
			continue
		}
		n := byName[*corev1.Node](s, "", o.Name)
		is := o.Status.Devices[0].Model == model
		if n == nil || same && !is || like != nil && same == is && like.Name < n.Name {
			continue
		}
		like, report, same = n, o, is
	}
	return like, report
}

// AddNode adds an empty node of a shape that is like another one: its labels, its taints, what can be allocated beside GPUs,
// and, of the report, driver and container runtime.
func (s *Snapshot) AddNode(name string, like *corev1.Node, report *berthv1alpha1.GPUNodeStatus, shape Shape) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: maps.Clone(like.Labels), Annotations: maps.Clone(like.Annotations)}}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelHostname] = name
	n.Spec.Taints = slices.DeleteFunc(slices.Clone(like.Spec.Taints), func(t corev1.Taint) bool { // of its state
		return strings.HasPrefix(t.Key, "node.kubernetes.io/")
	})
	delete(n.Annotations, berthv1alpha1.AnnotationCordonedGPUs)
	n.Status = *like.Status.DeepCopy()
	n.UID = types.UID("sim-node-" + name)

	o := &gpunode.Object{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("sim-gpunode-" + name)}}
	o.Status = &berthv1alpha1.GPUNodeStatus{
		DriverVersion: report.DriverVersion, HandOff: report.HandOff.DeepCopy(), ObservedTime: metav1.NewTime(s.Time),
	}
	for i := range shape.GPUs {
		d := berthv1alpha1.GPUDevice{
			UUID: fmt.Sprintf("GPU-%s-%d", name, i), Index: int32(i), Model: shape.Model.Name, ComputeCapability: shape.Model.ComputeCapability,
			Memory: berthv1alpha1.GPUMemory{Total: bytesOf(shape.Model.Total), Reserved: bytesOf(shape.Model.Reserved)},
			Health: berthv1alpha1.DeviceHealthy,
		}
		for j := range shape.GPUs {
			if shape.Model.NVLink && i != j {
				d.Links = append(d.Links, berthv1alpha1.GPULink{Peer: fmt.Sprintf("GPU-%s-%d", name, j), Type: berthv1alpha1.LinkNVLink})
			}
		}
		o.Status.Devices = append(o.Status.Devices, d)
	}
	s.Objects = append(s.Objects, n, o, leaseOf(name, metav1.NewMicroTime(s.Time)))
}

func bytesOf(n uint64) resource.Quantity { return *resource.NewQuantity(int64(n), resource.BinarySI) }
