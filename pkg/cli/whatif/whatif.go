// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package whatif answers what the scheduler would do if something were different in a cluster.
package whatif

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/pkg/simulator"
	"github.com/berth-dev/berth/pkg/simulator/admission"
)

// APIVersion and Kind are those of the JSON form. Fields are added to it, and never change or go within a version.
const (
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "WhatIf"
)

// Question is what is different.
type Question struct {
	// Pods are new pods, as their manifests have them, and Beside what comes with them: claims, volumes, classes. Of what
	// there is already the cluster's own counts.
	Pods   []*corev1.Pod
	Beside []runtime.Object
	// Admit asks a cluster how it would store a new pod; nil = what admission adds is applied here.
	Admit func(context.Context, *corev1.Pod) (*corev1.Pod, error)
	// Priority is the priority of the new pods, a number or the name of a priority class; empty = as they say.
	Priority string
	// AddNodes, Cordon, CordonGPUs, Drain and Without are changes of the cluster.
	AddNodes   []NewNodes
	Cordon     []string
	CordonGPUs []GPU
	Drain      []string
	Without    []Name
	// Strategy is another strategy of the plugin; empty = the scheduler's.
	Strategy string
	// Notes say what of the manifests is left out; the answer repeats them.
	Notes []string
}

// NewNodes are nodes of one shape.
type NewNodes struct {
	Shape simulator.Shape
	Count int
}

// GPU is one GPU of a node, by its UUID or its index.
type GPU struct{ Node, GPU string }

// Name is that of a pod.
type Name struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Answer is where each pod in question would go: the new ones and those of drained nodes; without any, those that wait.
type Answer struct {
	metav1.TypeMeta `json:",inline"`
	// Time is when the cluster was as it was taken to be.
	Time metav1.Time `json:"time"`
	Pods []Pod       `json:"pods"`
	// Others are pods of the cluster that would find a place meanwhile.
	Others []Pod    `json:"others,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// Pod is what would become of a pod.
type Pod struct {
	Name `json:",inline"`
	// Node is where it would go; empty if nowhere.
	Node    string   `json:"node"`
	Devices []Device `json:"devices"`
	// Victims are the pods that would be evicted for it.
	Victims []Name `json:"victims"`
	// Pending says why it would go nowhere; empty if it goes somewhere.
	Pending string `json:"pending"`
	// AfterSeconds is how long it would wait for its place, with the grace periods of its victims; models load in no time
	// here.
	AfterSeconds float64 `json:"afterSeconds,omitempty"`
}

// Device is what a pod would be given of a GPU, in bytes.
type Device struct {
	UUID   string `json:"uuid"`
	Memory uint64 `json:"memory"`
}

// AllPlaced says whether all pods in question would find a place.
func (a *Answer) AllPlaced() bool {
	return !slices.ContainsFunc(a.Pods, func(p Pod) bool { return p.Node == "" })
}

// Ask answers a question about a cluster. It takes the snapshot.
func Ask(ctx context.Context, s *simulator.Snapshot, q *Question) (*Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if q.Priority != "" && len(q.Pods) == 0 {
		return nil, errors.New("--priority is that of new pods: name their manifests by -f")
	}
	at := s.Time
	pods, err := q.admitted(ctx, s)
	if err != nil {
		return nil, err
	}
	displaced, err := q.change(s)
	if err != nil {
		return nil, err
	}
	waiting := waitingPods(s)
	options := simulator.Options{}
	if q.Strategy != "" {
		options.Args = map[string]any{"strategy": q.Strategy}
	}
	sim, err := simulator.New(ctx, s, options)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if !sim.IsOurs(pod) {
			return nil, fmt.Errorf("pod %s/%s is not placed by this scheduler: its schedulerName is %q", pod.Namespace, pod.Name, pod.Spec.SchedulerName)
		}
	}
	asked := slices.Concat(displaced, pods)
	if err := sim.Create(asked...); err != nil {
		return nil, err
	}
	if err := sim.Run(); err != nil {
		return nil, err
	}
	others := waiting
	if len(q.Pods) == 0 && len(q.Drain) == 0 {
		asked, others = waiting, nil
	}
	a, err := answer(sim, at, asked, others)
	if err == nil {
		a.Notes = append(q.Notes, a.Notes...)
	}
	return a, err
}

// admitted returns the new pods as the apiserver would store them, and adds what comes with them.
func (q *Question) admitted(ctx context.Context, s *simulator.Snapshot) ([]*corev1.Pod, error) {
	if len(q.Pods) == 0 {
		return nil, nil
	}
	for _, obj := range q.Beside {
		if err := s.Add(obj); err != nil {
			return nil, err
		}
	}
	admitter, err := admission.New(s.Objects)
	if err != nil {
		return nil, err
	}
	admitter.Claims(s.Objects)
	admit := q.Admit
	if admit == nil {
		admit = func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
			admitted, err := admitter.Admit(ctx, pod)
			if err != nil {
				return nil, fmt.Errorf("pod %s/%s would be refused: %w", pod.Namespace, pod.Name, err)
			}
			return admitted, nil
		}
	}
	var pods []*corev1.Pod
	for _, pod := range q.Pods {
		pod = pod.DeepCopy()
		value, notNumber := strconv.ParseInt(q.Priority, 10, 32)
		if q.Priority != "" {
			pod.Spec.Priority, pod.Spec.PriorityClassName = nil, ""
			if notNumber != nil {
				pod.Spec.PriorityClassName = q.Priority
			}
		}
		admitted, err := admit(ctx, pod)
		if err != nil {
			return nil, err
		}
		if q.Priority != "" && notNumber == nil {
			priority := int32(value)
			admitted.Spec.Priority = &priority
		}
		pods = append(pods, admitted)
	}
	return pods, nil
}

// change makes the changes, and returns the pods that lose their place by them.
func (q *Question) change(s *simulator.Snapshot) (displaced []*corev1.Pod, err error) {
	for _, p := range q.Without {
		if err := s.Without(p.Namespace, p.Name); err != nil {
			return nil, err
		}
	}
	for _, n := range q.AddNodes {
		if err := s.AddNodes(n.Shape, n.Count); err != nil {
			return nil, err
		}
	}
	for _, node := range q.Cordon {
		if err := s.Cordon(node); err != nil {
			return nil, err
		}
	}
	for _, gpu := range q.CordonGPUs {
		if err := s.CordonGPU(gpu.Node, gpu.GPU); err != nil {
			return nil, err
		}
	}
	for _, node := range q.Drain {
		pods, err := s.Drain(node)
		if err != nil {
			return nil, err
		}
		displaced = append(displaced, pods...)
	}
	return displaced, nil
}

// waitingPods returns the pods of a snapshot that are on no node.
func waitingPods(s *simulator.Snapshot) (pods []*corev1.Pod) {
	for _, obj := range s.Objects {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return pods
}

func answer(sim *simulator.Simulator, at time.Time, asked, others []*corev1.Pod) (*Answer, error) {
	a := &Answer{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Time: metav1.NewTime(at), Pods: []Pod{}, Notes: sim.Notes(),
	}
	strangers := 0
	for _, pod := range asked {
		if !sim.IsOurs(pod) {
			strangers++
			continue
		}
		p, err := OutcomeOf(sim, pod.Namespace, pod.Name)
		if err != nil {
			return nil, err
		}
		a.Pods = append(a.Pods, p)
	}
	if strangers > 0 {
		a.Notes = append(a.Notes, fmt.Sprintf("Pods of other schedulers, which are not asked: %d", strangers))
	}
	for _, pod := range others {
		if !sim.IsOurs(pod) {
			continue
		}
		p, err := OutcomeOf(sim, pod.Namespace, pod.Name)
		if err != nil {
			return nil, err
		}
		if p.Node != "" {
			a.Others = append(a.Others, p)
		}
	}
	return a, nil
}

// OutcomeOf returns what became of a pod.
func OutcomeOf(sim *simulator.Simulator, namespace, name string) (Pod, error) {
	p := Pod{Name: Name{Namespace: namespace, Name: name}, Devices: []Device{}, Victims: []Name{}}
	o, err := sim.Outcome(namespace, name)
	switch {
	case err != nil:
		return p, fmt.Errorf("pod %s/%s: %w", namespace, name, err)
	case o.Pod == nil:
		p.Pending = "it was placed, and evicted again"
		if by := sim.EvictedBy(namespace, name); by != nil {
			p.Pending += " for pod " + by.Namespace + "/" + by.Name
		}
		return p, nil
	}
	for _, v := range o.Victims {
		p.Victims = append(p.Victims, nameOf(v))
	}
	p.Pending = o.Pending
	if o.Pending != "" {
		return p, nil
	}
	p.Node, p.AfterSeconds = o.Pod.Spec.NodeName, o.After.Round(time.Second).Seconds()
	if o.Allocation != nil {
		for _, d := range o.Allocation.Devices {
			p.Devices = append(p.Devices, Device{UUID: d.UUID, Memory: d.Memory.Uint64()})
		}
	}
	return p, nil
}

func nameOf(pod *corev1.Pod) Name { return Name{Namespace: pod.Namespace, Name: pod.Name} }
