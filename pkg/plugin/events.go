// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// EventsToRegister names the framework's own events that may make a pod schedulable which Berth rejected. Reports,
// profiles and timers are not among them: their handlers activate the pods that they can help, see waiting.go, and a
// registration would only make the framework watch the same objects a second time.
func (pl *Plugin) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) {
	return []fwk.ClusterEventWithHint{
		{Event: fwk.ClusterEvent{Resource: fwk.AssignedPod, ActionType: fwk.Delete}, QueueingHintFn: pl.afterPodDeleted},
		{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: fwk.Add | fwk.UpdateNodeAllocatable | fwk.UpdateNodeLabel}, QueueingHintFn: pl.afterNodeChanged},
		{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: fwk.UpdateNodeAnnotation}, QueueingHintFn: pl.afterNodeAnnotated},
		{Event: fwk.ClusterEvent{Resource: fwk.TargetPod, ActionType: fwk.Update}, QueueingHintFn: pl.afterRequestChanged},
	}, nil
}

// afterPodDeleted retries a pod if the deleted one made room for it by what the tracker knows. This comes after the
// scheduler's own cache forgot the deleted pod, which the tracker's handler may be ahead of; so the pod is activated
// from here too: the hint alone would leave it in backoff.
func (pl *Plugin) afterPodDeleted(_ klog.Logger, pod *corev1.Pod, oldObj, _ any) (fwk.QueueingHint, error) {
	gone, ok := oldObj.(*corev1.Pod)
	p := pl.waiting.get(pod.UID)
	if !ok || p == nil || p.request == nil {
		return fwk.Queue, nil
	}
	// A nominated pod holds memory where it is nominated to, as long as the framework knows of it.
	node := cmp.Or(gone.Spec.NodeName, gone.Status.NominatedNodeName)
	if node == "" || !pl.waitsFor(p, node) && !pl.canHelp(node)(p) {
		return fwk.QueueSkip, nil
	}
	go pl.activate([]*waitingPod{p}) // not from here: the queue is locked
	return fwk.Queue, nil
}

// afterNodeChanged retries a pod if the node is one that it could be placed on by what the tracker knows.
func (pl *Plugin) afterNodeChanged(_ klog.Logger, pod *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	node, ok := newObj.(*corev1.Node)
	p := pl.waiting.get(pod.UID)
	if !ok || p == nil || p.request == nil {
		return fwk.Queue, nil
	}
	if old, ok := oldObj.(*corev1.Node); ok && old.Labels[berthv1alpha1.LabelDevicePlugin] == node.Labels[berthv1alpha1.LabelDevicePlugin] &&
		old.Labels[berthv1alpha1.LabelDRA] == node.Labels[berthv1alpha1.LabelDRA] &&
		berthv1alpha1.DriverGoes(old.Labels) == berthv1alpha1.DriverGoes(node.Labels) && !pl.waitsFor(p, node.Name) && !pl.canHelp(node.Name)(p) {
		return fwk.QueueSkip, nil
	}
	return fwk.Queue, nil
}

// afterNodeAnnotated retries a pod if an admin says in another way how GPUs are handed over on the node. Other
// annotations come and go often, and help nobody.
func (pl *Plugin) afterNodeAnnotated(_ klog.Logger, _ *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	before, ok1 := oldObj.(*corev1.Node)
	after, ok2 := newObj.(*corev1.Node)
	if ok1 && ok2 && before.Annotations[berthv1alpha1.AnnotationHandOff] == after.Annotations[berthv1alpha1.AnnotationHandOff] {
		return fwk.QueueSkip, nil
	}
	return fwk.Queue, nil
}

// afterRequestChanged retries a pod whose own request was edited.
func (pl *Plugin) afterRequestChanged(_ klog.Logger, pod *corev1.Pod, oldObj, newObj any) (fwk.QueueingHint, error) {
	before, ok1 := oldObj.(*corev1.Pod)
	after, ok2 := newObj.(*corev1.Pod)
	if !ok1 || !ok2 {
		return fwk.Queue, nil
	}
	if maps.Equal(requestAnnotations(before), requestAnnotations(after)) {
		return fwk.QueueSkip, nil
	}
	return fwk.Queue, nil
}

func requestAnnotations(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	for k, v := range pod.Annotations {
		if strings.HasPrefix(k, berthv1alpha1.GroupName+"/") {
			out[k] = v
		}
	}
	return out
}
