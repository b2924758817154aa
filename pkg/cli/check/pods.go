// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// untriedAfter is how long a pod may wait for its first try.
const untriedAfter = time.Minute

// pods judges whether pods that wait for Berth are served, and whether what bound pods were given can be read.
func (c *judge) pods() []Result {
	if why := c.unread(Pods); why != "" {
		return []Result{unknown(idServed, "pods could not be read: %s", why)}
	}
	var waiting, untried, without, unreadable []string
	why := ""
	for i := range c.Pods {
		pod := &c.Pods[i]
		name := pod.Namespace + "/" + pod.Name
		if gpustate.HasEnded(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		if pod.Spec.NodeName == "" && pod.Spec.SchedulerName == berthv1alpha1.SchedulerName {
			waiting = append(waiting, name)
			if c.isUntried(pod) {
				untried = append(untried, name)
			}
		}
		if gpustate.LacksAllocation(pod) {
			without = append(without, name)
		} else if _, err := gpustate.BookingOf(pod); err != nil && pod.Spec.NodeName != "" {
			unreadable, why = append(unreadable, name), err.Error()
		}
	}
	var out []Result
	_, leads := c.leads(c.leaseOf(Scheduler))
	switch {
	case len(waiting) == 0:
		out = append(out, ok(idServed, "no pod waits for Berth"))
	case c.unread(Leases) != "":
		out = append(out, unknown(idServed, "%s for Berth, and whether a scheduler lives is not known", waits(len(waiting))))
	case !leads:
		out = append(out, failed(idServed, "%s for the scheduler %q, and no process leads that serves it", waits(len(waiting)), berthv1alpha1.SchedulerName).
			of(waiting...).run(c.linesFor(Scheduler)...))
	default:
		out = append(out, ok(idServed, "%s for Berth, which a scheduler serves; kubectl berth explain pod/NAME says why one waits", waits(len(waiting))))
	}
	if leads && len(untried) > 0 {
		out = append(out, failed(idTried, "the scheduler has not tried %s, although they wait for more than %s: it is stuck, or does not see them", count(len(untried), "pod"), untriedAfter).
			of(untried...).run(c.linesFor(Scheduler)...))
	}
	if len(without) > 0 {
		out = append(out, failed(idAllocation, "%s on a node without any: another scheduler, or an older one, bound them", asks(len(without))).of(without...).run(deletions(without)...))
	}
	if len(unreadable) > 0 {
		out = append(out, failed(idAllocation, "what was given to %s cannot be read, so that nothing is placed on their nodes; of %s: %s", count(len(unreadable), "pod"), unreadable[len(unreadable)-1], why).
			of(unreadable...).run(deletions(unreadable)...).see(pageNodeReasons))
	}
	return out
}

func waits(n int) string {
	if n == 1 {
		return "1 pod waits"
	}
	return count(n, "pod") + " wait"
}

func asks(n int) string {
	if n == 1 {
		return "1 pod asks for GPU memory and is"
	}
	return count(n, "pod") + " ask for GPU memory and are"
}

// isUntried says whether the scheduler should have tried a pod by now and did not. One that waits for the size of its model, or for
// a gate, is not tried.
func (c *judge) isUntried(pod *corev1.Pod) bool {
	_, memory := pod.Annotations[berthv1alpha1.AnnotationGPUMemory]
	_, model := pod.Annotations[berthv1alpha1.AnnotationModel]
	if model && !memory || len(pod.Spec.SchedulingGates) > 0 || c.Time.Sub(pod.CreationTimestamp.Time) < untriedAfter {
		return false
	}
	for _, cond := range pod.Status.Conditions {
		if cond.Type == corev1.PodScheduled {
			return false
		}
	}
	return true
}
