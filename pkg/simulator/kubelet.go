// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// Timing is how long things take in a simulation.
type Timing struct {
	// Start is from the Binding of a pod to the start of its containers, which then hold all the GPU memory that is booked.
	Start time.Duration
	// Ready is from there to Ready. Real models load for minutes; since nobody knows for how many, no answer depends on it
	// but when a pod is placed that has to wait for one that loads.
	Ready time.Duration
	// Report is from the end of a pod, which takes its whole grace period, to the report that its memory is back.
	Report time.Duration
}

// DefaultTiming is that of a lab.
var DefaultTiming = Timing{Start: time.Second, Ready: time.Second, Report: time.Second}

// stuckFor is how long after the end of its grace period a pod counts as one that does not go.
const stuckFor = time.Minute

// kubelet is all kubelets: pods that are bound start and turn Ready, and those that are deleted go.
type kubelet struct {
	world  *world
	agent  *agent
	claims *claims
	timing Timing
	// atOnce says that pods are Ready once they are bound, and hold what is booked without a report of it.
	atOnce bool
	// under counts what is still to happen.
	under int
	// failed is the first error.
	failed error
}

// after does something to a pod later, if it is still there then.
func (k *kubelet) after(d time.Duration, pod *corev1.Pod, do func(*corev1.Pod) error) {
	k.under++
	k.world.clock.start(d, func() {
		k.under--
		now, ok := find[*corev1.Pod](k.world, pod.Namespace, pod.Name)
		if ok && now.UID == pod.UID {
			k.must(do(now))
		}
	})
}

func (k *kubelet) must(err error) {
	if err != nil && k.failed == nil {
		k.failed = err
	}
}

// bound starts a pod.
func (k *kubelet) bound(pod *corev1.Pod) {
	if k.atOnce {
		return // it was stored so
	}
	k.after(k.timing.Start, pod, func(pod *corev1.Pod) error {
		if pod.DeletionTimestamp != nil {
			return nil
		}
		started := pod.DeepCopy()
		k.start(started)
		if err := k.world.put(started); err != nil {
			return err
		}
		k.loads(started)
		return k.agent.started(started)
	})
}

// start makes the status of a pod that of one that runs.
func (k *kubelet) start(pod *corev1.Pod) {
	now := metav1.NewTime(k.world.clock.Now())
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &now
	pod.Status.ContainerStatuses = nil
	for i := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: pod.Spec.Containers[i].Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
}

// ready makes the status of a pod that runs that of one that is Ready.
func (k *kubelet) ready(pod *corev1.Pod) {
	for i := range pod.Status.ContainerStatuses {
		pod.Status.ContainerStatuses[i].Ready = true
	}
	setCondition(pod, corev1.ContainersReady, corev1.ConditionTrue, k.world.clock.Now())
	setCondition(pod, corev1.PodReady, corev1.ConditionTrue, k.world.clock.Now())
}

// loads turns a pod Ready that runs.
func (k *kubelet) loads(pod *corev1.Pod) {
	k.after(k.timing.Ready, pod, func(pod *corev1.Pod) error {
		if pod.DeletionTimestamp != nil {
			return nil
		}
		ready := pod.DeepCopy()
		k.ready(ready)
		return k.world.put(ready)
	})
}

// delete ends a pod: at once if it is on no node, else after its grace period.
func (k *kubelet) delete(pod *corev1.Pod, seconds *int64) error {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if seconds != nil {
		grace = *seconds
	}
	if pod.Spec.NodeName == "" || grace == 0 {
		k.must(k.disrupted(pod))
		return k.gone(pod)
	}
	if pod.DeletionTimestamp != nil {
		return nil
	}
	k.must(k.disrupted(pod))
	deleted := pod.DeepCopy()
	at := metav1.NewTime(k.world.clock.Now().Add(time.Duration(grace) * time.Second))
	deleted.DeletionTimestamp, deleted.DeletionGracePeriodSeconds = &at, &grace
	if err := k.world.put(deleted); err != nil {
		return err
	}
	k.after(time.Duration(grace)*time.Second, pod, k.gone)
	return nil
}

// disrupted counts a pod that is deleted in the budgets that it is in, as the disruption controller would. That others
// become healthy is not counted: a budget that is used up stays so.
func (k *kubelet) disrupted(pod *corev1.Pod) error {
	if !isReady(pod) || pod.DeletionTimestamp != nil {
		return nil
	}
	for _, pdb := range all[*policyv1.PodDisruptionBudget](k.world) {
		selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err != nil || pdb.Namespace != pod.Namespace || selector.Empty() || !selector.Matches(labels.Set(pod.Labels)) || pdb.Status.DisruptionsAllowed == 0 {
			continue
		}
		pdb = pdb.DeepCopy()
		pdb.Status.DisruptionsAllowed--
		if err := k.world.put(pdb); err != nil {
			return err
		}
	}
	return nil
}

// gone takes a pod away, and later what it held.
func (k *kubelet) gone(pod *corev1.Pod) error {
	if err := k.world.remove(pod); err != nil {
		return err
	}
	if err := k.claims.ended(pod); err != nil || k.atOnce {
		return err
	}
	k.under++
	k.world.clock.start(k.timing.Report, func() {
		k.under--
		k.must(k.agent.ended(pod))
	})
	return nil
}

// takeOver goes on with what the pods of a snapshot are about to do. A pod that restarted may never turn Ready, and one
// whose grace period is long over may never go: they stay as they are.
func (k *kubelet) takeOver() {
	now := k.world.clock.Now()
	for _, pod := range all[*corev1.Pod](k.world) {
		switch {
		case pod.Spec.NodeName == "":
		case pod.DeletionTimestamp != nil:
			if left := pod.DeletionTimestamp.Sub(now); left > -stuckFor {
				k.after(max(left, 0), pod, k.gone)
			}
		case isReady(pod) || restarted(pod):
		case len(pod.Status.ContainerStatuses) == 0:
			k.bound(pod)
		default:
			if _, loads := gpustate.LoadingUntil(pod, 0); loads {
				k.loads(pod)
			}
		}
	}
}

func isReady(pod *corev1.Pod) bool {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func restarted(pod *corev1.Pod) bool {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].RestartCount > 0 {
			return true
		}
	}
	return false
}
