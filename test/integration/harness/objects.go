// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

const (
	// conditionTimeout is how long a condition may take that is no matter of speed.
	conditionTimeout = 30 * time.Second
	pollInterval     = 25 * time.Millisecond
)

// Create creates an object and returns it as the server has it. What only the server says is taken off before, so
// that builders of stored objects can be used.
func Create[T client.Object](t testing.TB, l *Lab, object T) T {
	t.Helper()
	if err := l.TryCreate(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	return object
}

// TryCreate creates an object, for tests in which that may fail.
func (l *Lab) TryCreate(ctx context.Context, object client.Object) error {
	object.SetUID("")
	object.SetResourceVersion("")
	return l.Client.Create(ctx, object)
}

// Report makes a GPUNode say what gn says, and creates it if there is none.
func (l *Lab) Report(t testing.TB, gn *berthv1alpha1.GPUNode) {
	t.Helper()
	if err := l.TryReport(t.Context(), gn); err != nil {
		t.Fatal(err)
	}
}

// TryReport is Report for where a test cannot be ended.
func (l *Lab) TryReport(ctx context.Context, gn *berthv1alpha1.GPUNode) error {
	stored := &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: gn.Name}}
	if err := l.Client.Create(ctx, stored); err != nil {
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := l.Client.Get(ctx, client.ObjectKeyFromObject(gn), stored); err != nil {
			return err
		}
	}
	stored.Status = gn.Status
	err := l.Client.Status().Update(ctx, stored)
	if apierrors.IsConflict(err) { // the controller writes into reports too
		return l.TryReport(ctx, gn)
	}
	return err
}

// AddNode creates a Node and its report, and waits until the Node is Ready.
func (l *Lab) AddNode(t testing.TB, node *corev1.Node, gn *berthv1alpha1.GPUNode) {
	t.Helper()
	if gn != nil {
		l.Report(t, gn)
	}
	Create(t, l, node)
	Eventually(t, "node "+node.Name+" is Ready", func(ctx context.Context) (bool, string) {
		if err := l.Client.Get(ctx, client.ObjectKeyFromObject(node), node); err != nil {
			return false, err.Error()
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return true, ""
			}
		}
		return false, "it is not"
	})
}

// Pod returns a pod as it is now.
func (l *Lab) Pod(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	now := &corev1.Pod{}
	if err := l.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
		t.Fatal(err)
	}
	return now
}

// WaitBound waits until a pod is bound and returns it and its allocation; nil if it has none.
func (l *Lab) WaitBound(t testing.TB, pod *corev1.Pod) (*corev1.Pod, *gpustate.Allocation) {
	t.Helper()
	bound := l.waitPod(t, pod, "is bound", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	value, ok := bound.Annotations[berthv1alpha1.AnnotationAllocation]
	if !ok {
		return bound, nil
	}
	allocation, err := gpustate.DecodeAllocation(value)
	if err != nil {
		t.Fatalf("pod %s: %v", pod.Name, err)
	}
	return bound, allocation
}

// WaitReady waits until a pod is Ready.
func (l *Lab) WaitReady(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	return l.waitPod(t, pod, "is Ready", func(p *corev1.Pod) bool {
		c := condition(p, corev1.PodReady)
		return c != nil && c.Status == corev1.ConditionTrue
	})
}

// WaitUnschedulable waits until the scheduler has found no place for a pod, and returns its message.
func (l *Lab) WaitUnschedulable(t testing.TB, pod *corev1.Pod) string {
	t.Helper()
	waiting := l.waitPod(t, pod, "is unschedulable", func(p *corev1.Pod) bool {
		c := condition(p, corev1.PodScheduled)
		return c != nil && c.Status == corev1.ConditionFalse && c.Message != ""
	})
	return condition(waiting, corev1.PodScheduled).Message
}

// WaitGone waits until an object does not exist any more.
func (l *Lab) WaitGone(t testing.TB, object client.Object) {
	t.Helper()
	Eventually(t, object.GetName()+" is gone", func(ctx context.Context) (bool, string) {
		err := l.Client.Get(ctx, client.ObjectKeyFromObject(object), object)
		return apierrors.IsNotFound(err), fmt.Sprintf("get: %v", err)
	})
}

// Delete deletes an object; a grace period below zero is that of the object.
func (l *Lab) Delete(t testing.TB, object client.Object, gracePeriod time.Duration) {
	t.Helper()
	var options []client.DeleteOption
	if gracePeriod >= 0 {
		options = append(options, client.GracePeriodSeconds(int64(gracePeriod.Seconds())))
	}
	if err := l.Client.Delete(t.Context(), object, options...); err != nil {
		t.Fatal(err)
	}
}

// Annotate sets an annotation of an object.
func (l *Lab) Annotate(t testing.TB, object client.Object, key, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if err := l.Client.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, patch)); err != nil {
		t.Fatal(err)
	}
}

func (l *Lab) waitPod(t testing.TB, pod *corev1.Pod, what string, met func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	now := &corev1.Pod{}
	Eventually(t, "pod "+pod.Name+" "+what, func(ctx context.Context) (bool, string) {
		if err := l.Client.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return false, err.Error()
		}
		return met(now), fmt.Sprintf("node %q, phase %s, conditions %v", now.Spec.NodeName, now.Status.Phase, now.Status.Conditions)
	})
	return now
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// Eventually waits until a condition is met, and fails the test with what it said last if that takes too long.
func Eventually(t testing.TB, what string, met func(context.Context) (ok bool, state string)) {
	t.Helper()
	for deadline := time.Now().Add(conditionTimeout); ; time.Sleep(pollInterval) {
		ok, state := met(t.Context())
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s; %s", conditionTimeout, what, state)
		}
	}
}
