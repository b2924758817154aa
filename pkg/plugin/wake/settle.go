// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Settle forgets the draining pods of a node ("" = none) whose memory is back, now and when only time can tell.
func (w *Waker) Settle(node string) {
	if node == "" {
		return
	}
	if at := w.Tracker.SettleNode(node); !at.IsZero() {
		w.Timers.At("settle/"+node, at, func() {
			w.Settle(node)
			w.NodeChanged(node)
		})
	}
}

// unreportedKey and a node's name are the key of its timer for pods of the device plugin that no report tells of.
const unreportedKey = "unreported/"

// WatchUnreported retries the pods that wait for a node when a pod of the device plugin there can no longer hold GPUs of
// which no report tells.
func (w *Waker) WatchUnreported(pod *corev1.Pod) {
	now := w.Clock.Now()
	policy := &w.Tracker.Policy
	if pod.Spec.NodeName == "" || !policy.RequestsGPUs(pod) {
		return
	}
	node, err := w.Nodes.Get(pod.Spec.NodeName)
	if err != nil || node.Labels[berthv1alpha1.LabelDevicePlugin] != berthv1alpha1.DevicePluginShared {
		return
	}
	if until := policy.UnreportedUntil(pod, time.Time{}, now); until.After(now) {
		w.Timers.At(unreportedKey+pod.Spec.NodeName, until, func() { w.NodeChanged(pod.Spec.NodeName) })
	}
	w.NodeChanged(pod.Spec.NodeName) // an init container may have ended
}

// AgentLives retries the pods that wait for a node whose agent has just told that it lives, if what it had not told was in
// their way: by now it has looked.
func (w *Waker) AgentLives(node string) {
	if w.Timers.Has(unreportedKey + node) {
		w.NodeChanged(node)
	}
}
