// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/controller/noderesource"
)

const (
	// resourcePart is the folder of manifests with the policies that go with the argument gpuMemoryResource.
	resourcePart = "components/gpu-memory-resource"
	// resourceFlag is the controller's flag that goes with it.
	resourceFlag = "--gpu-memory-resource"
	// quotaKey is how a ResourceQuota counts it. An extended resource has no limits there.
	quotaKey = corev1.ResourceName("requests." + string(berthv1alpha1.ResourceGPUMemory))
)

// resourceOn says whether GPU memory is to be a resource, by the scheduler's arguments.
func (c *judge) resourceOn() bool { return c.Args != nil && c.Args.GPUMemoryResource }

// resource judges whether all who make GPU memory a resource do, or none: the scheduler's argument, the controller's flag, and
// the policies.
func (c *judge) resource() []Result {
	there, missing, unread := c.resourcePolicies()
	advertises, known := c.controllerAdvertises()
	switch {
	case c.Args == nil:
		return nil // which is told of its configuration
	case c.resourceOn() && c.Mutating == "" && c.unread(MutatingVersion) == "" && !c.FromFile:
		return []Result{failed(idResource, "the scheduler's argument gpuMemoryResource is on, and the API server serves no mutating admission policies, without which pods ask for no resource, and a kubelet may end those that do").
			see(pageResource)}
	case c.resourceOn() && len(there)+len(unread) == 0:
		return []Result{failed(idResource, "the scheduler's argument gpuMemoryResource is on, and the policies that go with it are not installed: %s", listed(missing)).
			run(c.switchOn()...).see(pageResource)}
	case c.resourceOn() && known && !advertises:
		return []Result{failed(idResource, "the scheduler's argument gpuMemoryResource is on, and the controller runs without %s: no node advertises %s", resourceFlag, berthv1alpha1.ResourceGPUMemory).
			run(c.switchOn()...).see(pageResource)}
	case c.resourceOn():
		return nil
	}
	var parts []string
	if advertises {
		parts = append(parts, "the controller runs with "+resourceFlag)
	}
	if len(there) > 0 {
		parts = append(parts, "policies that go with it are installed: "+listed(there))
	}
	if len(parts) == 0 {
		return nil
	}
	return []Result{warning(idResource, "the scheduler's argument gpuMemoryResource is off, and %s: pods are not told that nodes have enough in sum, and no GPU has. Switch it on everywhere, or nowhere", strings.Join(parts, ", and ")).
		run(c.editConfig()...).see(pageResource)}
}

// resourcePolicies says which of the policies are there with their bindings, which are not, and which could not be read.
func (c *judge) resourcePolicies() (there, missing, unread []string) {
	for _, shipped := range c.shipped {
		if shipped.part != resourcePart {
			continue
		}
		switch found := c.found(KeyOf(shipped.Unstructured)); {
		case found.Unread != "":
			unread = append(unread, shipped.GetName())
		case found.Object == nil:
			missing = append(missing, shipped.GetName())
		default:
			there = append(there, shipped.GetName())
		}
	}
	return distinct(there), distinct(missing), distinct(unread)
}

func distinct(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// controllerAdvertises says whether the controller has the flag. known is false where no Deployment tells.
func (c *judge) controllerAdvertises() (on, known bool) {
	for i := range c.Deployments {
		d := &c.Deployments[i]
		if d.Labels[LabelName] != Controller {
			continue
		}
		known = true
		for _, container := range d.Spec.Template.Spec.Containers {
			for _, arg := range slices.Concat(container.Command, container.Args) {
				if flag, value, has := strings.Cut(arg, "="); flag == resourceFlag {
					on, _ = strconv.ParseBool(value)
					on = on || !has
				}
			}
		}
	}
	return on, known
}

// switchOn is the line that makes GPU memory a resource in all that is installed. What lacks of an overlay only its author sees.
func (c *judge) switchOn() []string {
	if c.helm == "" {
		return nil
	}
	return []string{c.applyAgain("policies") + " --set gpuMemoryResource=true"}
}

// quotas finds quotas that count GPU memory where what pods ask for by the annotation is no resource.
func (c *judge) quotas() []Result {
	if found := c.found(keyOf("MutatingAdmissionPolicy", "", "berth-resource")); found.Object != nil || found.Unread != "" || c.resourceOn() {
		return nil
	}
	if why := c.unread(Quotas); why != "" {
		return []Result{unknown(idQuota, "whether a quota counts GPU memory, which is no resource here, is not known: ResourceQuotas could not be read: %s", why)}
	}
	var names []string
	for i := range c.Quotas {
		if _, counts := c.Quotas[i].Spec.Hard[quotaKey]; counts {
			names = append(names, c.Quotas[i].Namespace+"/"+c.Quotas[i].Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []Result{failed(idQuota, "%s, and the argument gpuMemoryResource is off: pods that ask by the annotation %s are not counted, however many they are",
		quotasCount(len(names)), berthv1alpha1.AnnotationGPUMemory).of(names...).see(pageResource)}
}

func quotasCount(n int) string {
	if n == 1 {
		return "1 ResourceQuota counts " + string(quotaKey)
	}
	return fmt.Sprintf("%d ResourceQuotas count %s", n, quotaKey)
}

// advertised compares what nodes advertise with what the controller would write.
func (c *judge) advertised() (out []Result) {
	if !c.resourceOn() {
		return nil
	}
	if why := c.unread(Pods); why != "" {
		return []Result{unknown(idAdvertised, "what nodes should advertise of %s is not known: pods could not be read: %s", berthv1alpha1.ResourceGPUMemory, why)}
	}
	reports := map[string][]berthv1alpha1.GPUDevice{}
	for i := range c.GPUNodes {
		reports[c.GPUNodes[i].Name] = c.GPUNodes[i].Status.Devices
	}
	var none, less, more []string
	detail, good := map[string]string{}, 0
	for i := range c.Nodes {
		node := &c.Nodes[i]
		want, has := c.toAdvertise(node.Name, reports[node.Name]), noderesource.Of(node)
		detail[node.Name] = fmt.Sprintf("%s advertises %s, of %s", node.Name, alloc.BytesOfInt64(max(has, 0)), alloc.BytesOfInt64(want))
		switch {
		case want <= 0 && has < 0:
		case want > 0 && has < 0:
			none = append(none, node.Name)
		case has < want:
			less = append(less, node.Name)
		case has > want:
			more = append(more, node.Name)
		default:
			good++
		}
	}
	if len(none) > 0 {
		out = append(out, failed(idAdvertised, "%s GPUs and %s no %s, which quotas and autoscalers go by: the controller writes it", have(len(none)), advertise(len(none)), berthv1alpha1.ResourceGPUMemory).
			of(none...).run(c.linesFor(Controller)...).see(pageAdvertised))
	}
	if len(less) > 0 {
		out = append(out, failed(idAdvertised, "nodes advertise less GPU memory than their GPUs have, so that pods are kept off that fit: %s. Somebody resets it, or the controller has a larger --headroom than the scheduler (%s)",
			shortened(each(less, detail)), &c.Settings.Headroom).of(less...).run(c.linesFor(Controller)...).see(pageAdvertised))
	}
	if len(more) > 0 {
		out = append(out, warning(idAdvertised, "nodes advertise more GPU memory than their GPUs have: %s. GPUs are gone for less than %s, or the controller has a smaller --headroom than the scheduler (%s)",
			shortened(each(more, detail)), rounded(noderesource.LowerAfter), &c.Settings.Headroom).of(more...).run(c.linesFor(Controller)...).see(pageAdvertised))
	}
	if good > 0 {
		out = append(out, ok(idAdvertised, "%s the memory of their GPUs as %s", count(good, "node")+" "+advertise(good), berthv1alpha1.ResourceGPUMemory))
	}
	return out
}

func advertise(n int) string {
	if n == 1 {
		return "advertises"
	}
	return "advertise"
}

// toAdvertise is what the controller would have a node advertise, in bytes: what it lowers only after a while, at once.
func (c *judge) toAdvertise(node string, devices []berthv1alpha1.GPUDevice) int64 {
	var pods []*corev1.Pod
	for _, pod := range c.onNode[node] {
		asks := &corev1.Pod{ObjectMeta: pod.ObjectMeta, Status: corev1.PodStatus{Phase: pod.Status.Phase}}
		noderesource.TrimPod(asks, pod)
		pods = append(pods, asks)
	}
	return noderesource.Advertised(devices, alloc.BytesOfInt64(c.Settings.Headroom.Value()), pods)
}
