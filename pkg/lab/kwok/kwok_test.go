// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package kwok

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/utils/lifecycle"
)

// TestStages plays the stages that match a pod without a cluster: which one comes next, and after which delay.
func TestStages(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	job := []metav1.OwnerReference{{Kind: "Job", Name: "j"}}
	deletion := metav1.NewTime(now.Add(30 * time.Second).Truncate(time.Second))
	tests := map[string]struct {
		meta      metav1.ObjectMeta
		status    corev1.PodStatus
		wantStage string
		wantDelay time.Duration
	}{
		"a bound pod runs at once": {
			status: corev1.PodStatus{Phase: corev1.PodPending}, wantStage: "pod-run",
		},
		"a running pod stays as it is": {
			status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{ready}},
		},
		"a running pod that was made unready stays so": {
			status: corev1.PodStatus{Phase: corev1.PodRunning},
		},
		"a pod that loads runs at once": {
			meta:   annotated(AnnotationReadyAfter, "5s"),
			status: corev1.PodStatus{Phase: corev1.PodPending}, wantStage: "pod-start",
		},
		"a pod that loads is ready after its time": {
			meta:   annotated(AnnotationReadyAfter, "5s"),
			status: corev1.PodStatus{Phase: corev1.PodRunning}, wantStage: "pod-loaded", wantDelay: 5 * time.Second,
		},
		"a pod that is never ready loads for a hundred years": {
			meta:   annotated(AnnotationReadyAfter, "never"),
			status: corev1.PodStatus{Phase: corev1.PodRunning}, wantStage: "pod-loaded", wantDelay: 100 * 365.25 * 24 * time.Hour,
		},
		"a pod of a Job succeeds after a second": {
			meta:      metav1.ObjectMeta{OwnerReferences: job},
			status:    corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{ready}},
			wantStage: "pod-succeed", wantDelay: time.Second,
		},
		"a pod with a run time succeeds after it": {
			meta:      annotated(AnnotationRunFor, "1m"),
			status:    corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{ready}},
			wantStage: "pod-succeed", wantDelay: time.Minute,
		},
		"a deleted pod goes when its grace period is over, not a moment earlier": {
			meta:      metav1.ObjectMeta{DeletionTimestamp: &deletion, DeletionGracePeriodSeconds: new(int64(30))},
			status:    corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{ready}},
			wantStage: "pod-delete", wantDelay: 30*time.Second + 400*time.Millisecond,
		},
	}
	pods := lifecycleOf(t, "Pod")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: tt.meta, Status: tt.status}
			stage, delay := next(t.Context(), t, pods, pod, &pod.ObjectMeta, now)
			if stage != tt.wantStage || delay != tt.wantDelay {
				t.Errorf("next stage is %q after %s, want %q after %s", stage, delay, tt.wantStage, tt.wantDelay)
			}
		})
	}

	t.Run("a new node becomes ready once", func(t *testing.T) {
		nodes := lifecycleOf(t, "Node")
		node := &corev1.Node{}
		if stage, _ := next(t.Context(), t, nodes, node, &node.ObjectMeta, now); stage != "node-ready" {
			t.Errorf("next stage of a new node is %q, want node-ready", stage)
		}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		if stage, _ := next(t.Context(), t, nodes, node, &node.ObjectMeta, now); stage != "" {
			t.Errorf("next stage of a ready node is %q, want none", stage)
		}
	})
}

func annotated(key, value string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Annotations: map[string]string{key: value}}
}

func lifecycleOf(t *testing.T, kind string) lifecycle.Lifecycle {
	t.Helper()
	stages, err := loadStages()
	if err != nil {
		t.Fatal(err)
	}
	lc, err := lifecycle.NewLifecycle(stages[internalversion.StageResourceRef{APIGroup: "v1", Kind: kind}])
	if err != nil {
		t.Fatal(err)
	}
	return lc
}

// next returns the name of the only stage that matches the object, empty for none, and its delay.
func next(ctx context.Context, t *testing.T, lc lifecycle.Lifecycle, obj runtime.Object, meta metav1.Object, now time.Time) (string, time.Duration) {
	t.Helper()
	event := &lifecycle.Event{Labels: meta.GetLabels(), Annotations: meta.GetAnnotations(), Data: obj}
	stages, err := lc.ListAllPossible(ctx, event)
	if err != nil {
		t.Fatal(err)
	}
	switch len(stages) {
	case 0:
		return "", 0
	case 1:
		delay, _, err := stages[0].Delay(ctx, event, now)
		if err != nil {
			t.Fatal(err)
		}
		return stages[0].Name(), delay
	}
	t.Fatalf("%d stages match, want at most one", len(stages))
	return "", 0
}
