// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
)

// ofOneNamespace is a cluster of which a user may read the namespace default only. A pod in it waits.
func ofOneNamespace() map[string]any {
	waits := bt.MakePod("waits").Memory("60Gi").Obj()
	waits.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		Message: "0/1 nodes are available: 1 node(s) didn't have enough free GPU memory.", LastTransitionTime: metav1.NewTime(time.Unix(1e9, 0)),
	}}
	of := func(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }
	event := corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, ReportingController: berthv1alpha1.SchedulerName,
		Reason: "WaitingForMemory", Message: "waits for 20Gi of pod other/x",
	}
	return map[string]any{
		"/api/v1/namespaces/default/pods":   corev1.PodList{TypeMeta: of("PodList"), Items: []corev1.Pod{*waits, *running("mine", "8Gi")}},
		"/api/v1/namespaces/default/events": corev1.EventList{TypeMeta: of("EventList"), Items: []corev1.Event{event}},
	}
}

// TestAUserOfOneNamespace gets what can be said, and is told what is missing and whom to ask for what.
func TestAUserOfOneNamespace(t *testing.T) {
	const missing = "GPUNodes, nodes, pods of other namespaces than default could not be read"
	file := filepath.Join(t.TempDir(), "s.json")
	tests := []struct {
		name string
		args []string
		fail bool
		want []string
	}{
		{
			name: "explain tells what the pod tells", args: []string{"explain", "pod/waits"},
			want: []string{"default/waits waits. The scheduler said at 2001-09-09T01:46:40Z: 0/1 nodes are available", "It was told: WaitingForMemory: waits for 20Gi", missing, "ClusterRole berth-view"},
		},
		{name: "so in JSON", args: []string{"explain", "pod/waits", "-o", "json"}, want: []string{`"missing": [`, `"said": "2001-09-09T01:46:40Z"`, "WaitingForMemory"}},
		{name: "and of a pod that is placed", args: []string{"explain", "pod/mine"}, want: []string{"default/mine is on node gpu-a.", missing}},
		{name: "no pod of that name that may be read", args: []string{"explain", "pod/other"}, fail: true, want: []string{"that you may read"}},
		{name: "what-if cannot know", args: []string{"what-if"}, fail: true, want: []string{missing, "ClusterRole berth-view"}},
		{name: "a map of the GPUs neither", args: []string{"top"}, fail: true, want: []string{"list GPUNodes", "berth-view", "--by owner -n NAMESPACE"}},
		{name: "who uses what can be said of the namespace", args: []string{"top", "--by", "namespace"}, want: []string{"default", "8Gi", "only those of namespace default"}},
		{name: "a snapshot has what there is", args: []string{"snapshot", "-o", file}, want: []string{missing, "2 objects"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errOut, err := berth(t, ofOneNamespace(), "", tt.args...)
			if (err != nil) != tt.fail {
				t.Errorf("%v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(out+errOut, want) {
					t.Errorf("want %q in\n%s%s", want, out, errOut)
				}
			}
		})
	}
	t.Run("a file knows what it lacks", func(t *testing.T) {
		out, _, err := berth(t, nil, "", "explain", "pod/waits", "--from", file)
		if err != nil || !strings.Contains(out, missing) || !strings.Contains(out, "default/waits waits") {
			t.Errorf("%v\n%s", err, out)
		}
		if _, errOut, err := berth(t, nil, "", "what-if", "--from", file); err == nil || !strings.Contains(errOut, missing) {
			t.Errorf("%v\n%s", err, errOut)
		}
	})
}
