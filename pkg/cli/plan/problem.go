// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	podresource "k8s.io/component-helpers/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/planner"
)

// sized is what is to be planned, as the planner sees it.
type sized struct {
	planner.Problem
	// names are those of the classes.
	names []string
	// notes are what is to be known of how requests were read.
	notes []string
	// loads says whether there are engines beside which nothing is placed while they load.
	loads bool
}

// problemOf sizes pods for each shape, as the scheduler does for a node of it.
func problemOf(shapes []Shape, pods []*corev1.Pod, profiles []*berthv1alpha1.ModelProfile) (*sized, error) {
	p := &sized{}
	for i := range shapes {
		s := &shapes[i]
		p.Shapes = append(p.Shapes, planner.Shape{
			GPUs: s.GPUs, Memory: capacityOf(s), Price: s.Price,
			CPU: s.CPU.MilliValue(), HostMemory: s.Memory.Value(), Pods: PodsOfNode,
		})
	}
	known := map[string]int{}
	for _, pod := range pods {
		key := workloadOf(pod)
		i, ok := known[key]
		if !ok {
			class, request, err := classOf(shapes, p.Shapes, pod, profiles)
			if err != nil {
				return nil, fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
			}
			i = len(p.Classes)
			known[key] = i
			p.Classes, p.names = append(p.Classes, class), append(p.names, key)
			if request != nil {
				p.loads = p.loads || estimator.EngineOf(request.Runtime).MeasuresFreeMemory
				for _, n := range request.Notes {
					p.notes = append(p.notes, fmt.Sprintf("%s/%s: %s", pod.Namespace, pod.Name, n.Message))
				}
			}
		}
		p.Classes[i].Pods++
	}
	return p, nil
}

// workloadOf names what a pod is one of: pods of a controller are alike.
func workloadOf(pod *corev1.Pod) string {
	name := pod.Name
	if owner := metav1.GetControllerOf(pod); owner != nil {
		name = owner.Kind + " " + strings.TrimSuffix(owner.Name, "-simulated")
		if owner.Kind == "StatefulSet" && pod.Labels["leaderworkerset.sigs.k8s.io/name"] != "" {
			name = pod.Name // leader and workers have templates of their own
		}
	}
	return pod.Namespace + "/" + name
}

// capacityOf is what can be booked of a GPU.
func capacityOf(s *Shape) alloc.Bytes {
	headroom := gpumap.DefaultSettings().Headroom
	return alloc.BytesOf(s.Model.Total).Minus(alloc.BytesOf(s.Model.Reserved)).Minus(alloc.BytesOfInt64(headroom.Value()))
}

func classOf(shapes []Shape, rooms []planner.Shape, pod *corev1.Pod, profiles []*berthv1alpha1.ModelProfile) (planner.Class, *gpustate.Request, error) {
	requests := podresource.PodRequests(pod, podresource.PodResourcesOptions{})
	c := planner.Class{
		CPU: requests.Cpu().MilliValue(), HostMemory: requests.Memory().Value(), Apart: keepsApart(pod),
	}
	request, err := requestOf(pod, profiles)
	if err != nil {
		return c, nil, err
	}
	for i := range shapes {
		room := &rooms[i]
		var options []planner.Option
		switch {
		case room.CPU > 0 && c.CPU > room.CPU, room.HostMemory > 0 && c.HostMemory > room.HostMemory:
		case request == nil:
			options = []planner.Option{{}} // it asks for no GPU
		default:
			options = optionsOn(&shapes[i], room, request)
		}
		c.Options = append(c.Options, options)
	}
	return c, request, nil
}

// requestOf returns what a pod asks for of GPUs; nil if it asks for none.
func requestOf(pod *corev1.Pod, profiles []*berthv1alpha1.ModelProfile) (*gpustate.Request, error) {
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil || parsed == nil {
		return nil, err
	}
	var profile *berthv1alpha1.ModelProfile
	for _, p := range profiles {
		if p.IsOf(parsed.Model) {
			profile = p
		}
	}
	request, unresolved, err := gpustate.NewRequest(pod, parsed, profile, gpustate.Sizing{})
	if unresolved != nil {
		return nil, fmt.Errorf("the size of %s is not known: %s", unresolved.Model, unresolved.Why)
	}
	return request, err
}

// optionsOn returns the options that a node of a shape has room for. Of shares that differ the smallest counts for all.
func optionsOn(shape *Shape, room *planner.Shape, request *gpustate.Request) (options []planner.Option) {
	gpu := alloc.Device{UUID: "GPU", Model: shape.Model.Name, Total: alloc.BytesOf(shape.Model.Total), Capacity: room.Memory}
	on := request.On(&alloc.Node{Devices: []alloc.Device{gpu}})
	for i := range on.Options() {
		o := &on.Options()[i]
		share := o.On(len(o.Shares)-1, &gpu)
		if len(o.Shares) <= shape.GPUs && !room.Memory.Less(share) {
			options = append(options, planner.Option{GPUs: len(o.Shares), Share: share})
		}
	}
	return options
}

// keepsApart says whether a pod goes on no node that has another one of its controller, by its anti-affinity.
func keepsApart(pod *corev1.Pod) bool {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return false
	}
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		elsewhere := len(term.Namespaces) > 0 || term.NamespaceSelector != nil || len(term.MatchLabelKeys) > 0 || len(term.MismatchLabelKeys) > 0
		if elsewhere || term.TopologyKey != corev1.LabelHostname {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			return true
		}
	}
	return false
}
