// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Terms are a pod's own terms as a victim.
type Terms struct {
	// IdleAfter is how long it must be measured idle before a pod of its own priority may evict it; zero = never.
	IdleAfter time.Duration
	// MinRuntime is how long it has to have run; zero = not at all.
	MinRuntime time.Duration
}

// termsOf reads a pod's terms, which are those of its entry before if nothing was edited. They were validated at
// admission; a request that cannot be read protects nobody and offers nothing.
func termsOf(pod *corev1.Pod, before *Entry) Terms {
	_, idle := pod.Annotations[berthv1alpha1.AnnotationIdleAfter]
	_, run := pod.Annotations[berthv1alpha1.AnnotationMinRuntime]
	switch {
	case !idle && !run:
		return Terms{}
	case before != nil && before.Pod != nil && sameTerms(before.Pod, pod):
		return before.Terms
	}
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil || parsed == nil {
		return Terms{}
	}
	return Terms{IdleAfter: parsed.IdleAfter, MinRuntime: parsed.MinRuntime}
}

func sameTerms(a, b *corev1.Pod) bool {
	return a.Annotations[berthv1alpha1.AnnotationIdleAfter] == b.Annotations[berthv1alpha1.AnnotationIdleAfter] &&
		a.Annotations[berthv1alpha1.AnnotationMinRuntime] == b.Annotations[berthv1alpha1.AnnotationMinRuntime]
}

// ProtectedUntil is when the min-runtime of a bound pod is over: that long after it was first Ready, or, if it never
// is, after the time that it has to load; and never later than maxMinRuntime after its first start. Readiness that was
// lost starts nothing anew. While no container has started, the start is the bind. The zero time = never protected.
func (e *Entry) ProtectedUntil(loadTimeout, maxMinRuntime time.Duration) time.Time {
	if e.Terms.MinRuntime == 0 {
		return time.Time{}
	}
	started := e.Since
	if e.Pod != nil {
		if at, ok := firstStart(e.Pod); ok {
			started = at
		} else if at, ok := boundAt(e.Pod); ok {
			started = at
		}
	}
	until := started.Add(loadTimeout).Add(e.Terms.MinRuntime)
	if !e.firstReady.IsZero() {
		until = earlier(until, e.firstReady.Add(e.Terms.MinRuntime))
	}
	return earlier(until, started.Add(maxMinRuntime))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
