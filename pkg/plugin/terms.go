// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// victimTerms are a pod's own terms as a victim.
type victimTerms struct {
	idleAfter  time.Duration // zero = never evicted for being idle
	minRuntime time.Duration // zero = at any time
}

// termsOf reads a pod's terms. They were validated at admission; what cannot be read protects nobody and offers
// nothing.
func (pl *Plugin) termsOf(pod *corev1.Pod) victimTerms {
	return victimTerms{
		idleAfter:  durationOf(pod, berthv1alpha1.AnnotationIdleAfter),
		minRuntime: min(durationOf(pod, berthv1alpha1.AnnotationMinRuntime), pl.args.MaxMinRuntime.Duration),
	}
}

// victimChanged retries the waiting pods that could evict a pod which fell idle, or became Ready: its idle-after or its
// min-runtime runs from now on, and the retry sets the timer for when it is over, see evictFor.
func (pl *Plugin) victimChanged(e *gpustate.Entry) {
	if e.Pod == nil || pl.termsOf(e.Pod) == (victimTerms{}) {
		return
	}
	var able []*waitingPod
	for _, p := range pl.waiting.all() {
		if corev1helpers.PodPriority(p.pod) >= e.Priority {
			able = append(able, p)
		}
	}
	pl.activate(able)
}

func durationOf(pod *corev1.Pod, key string) time.Duration {
	s, ok := pod.Annotations[key]
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0
	}
	return d
}

// sameWorkload says whether two pods are replicas of one workload, over the revisions of a Deployment too.
func sameWorkload(a, b *corev1.Pod) bool {
	if a.Namespace != b.Namespace {
		return false
	}
	wa, wb := workloadOf(a), workloadOf(b)
	return wa != "" && wa == wb
}

// workloadOf names the workload of a pod within its namespace: its Deployment if it is a Deployment's, else its
// controller; empty if it has none.
func workloadOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return ""
	}
	if hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; owner.Kind == "ReplicaSet" && hash != "" {
		if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok {
			return "Deployment/" + name
		}
	}
	return owner.Kind + "/" + owner.Name
}
