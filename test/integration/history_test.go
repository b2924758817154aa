// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli"
	"github.com/berth-dev/berth/pkg/cli/explain"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestHistory is about what is left of an eviction: in the scheduler's log, at the least verbosity, and what explain quotes
// of both pods, and of that which is gone; and about what a Node tells of a GPU that fails.
func TestHistory(t *testing.T) {
	lab := harness.Start(t, "--nodes=1", "--gpus=1", "--scheduler-arg=--logging-format=json", "--scheduler-arg=--v=0")
	pod := func(name, class string) *corev1.Pod {
		p := bt.MakePod(name).Memory("60Gi").Obj()
		p.Spec.Containers[0].Env = nil // which the policy adds
		p.Spec.PriorityClassName, p.Spec.TerminationGracePeriodSeconds = class, ptr.To(int64(1))
		return p
	}
	victim := harness.Create(t, lab, pod("victim", "berth-batch"))
	lab.WaitReady(t, victim)
	preemptor := harness.Create(t, lab, pod("preemptor", "berth-interactive"))
	lab.WaitBound(t, preemptor)
	lab.WaitGone(t, victim)

	t.Run("the log has it", func(t *testing.T) {
		for name, want := range map[string][]string{
			"victim":    {"Bound a pod to its GPUs", "Evicted a pod"},
			"preemptor": {"Bound a pod to its GPUs", "Evicted a pod", "Evicting pods for a pod"},
		} {
			harness.Eventually(t, "the log has the lines about "+name, func(context.Context) (bool, string) {
				got := logOf(t, lab, name) // victims are evicted while their line is written
				return slices.Equal(slices.Sorted(slices.Values(got)), want), strings.Join(got, ", ")
			})
		}
	})
	t.Run("explain quotes it", func(t *testing.T) {
		explains(t, lab, "preemptor", "The scheduler told: EvictingForGPUMemory: Evicting default/victim", "pod    allocated on node gpu-0: 60Gi on GPU-",
			"event  of pod default/victim, EvictedForGPUMemory: Evicted from node gpu-0 to make room for GPU memory of pod default/preemptor")
		explains(t, lab, "victim", "default/victim is gone", "event  EvictedForGPUMemory: Evicted from node gpu-0 to make room for GPU memory of pod default/preemptor")
	})
	t.Run("the Node tells that a GPU fails, and that it is well again", func(t *testing.T) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0"}}
		tells := func(status corev1.ConditionStatus, reason string) {
			t.Helper()
			harness.Eventually(t, fmt.Sprintf("the condition is %s, %s", status, reason), func(ctx context.Context) (bool, string) {
				if err := lab.Client.Get(ctx, client.ObjectKeyFromObject(node), node); err != nil {
					return false, err.Error()
				}
				i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == berthv1alpha1.ConditionGPUUnhealthy })
				if i < 0 {
					return false, "there is none"
				}
				c := node.Status.Conditions[i]
				return c.Status == status && c.Reason == reason, fmt.Sprint(c.Status, " ", c.Reason, " ", c.Message)
			})
		}
		tells(corev1.ConditionFalse, "GPUsAreHealthy")
		lab.Annotate(t, node, "lab.berth.dev/unhealthy", "0=Xid79")
		tells(corev1.ConditionTrue, "Xid79")
		lab.Annotate(t, node, "lab.berth.dev/unhealthy", "")
		tells(corev1.ConditionFalse, "GPUsAreHealthy")
	})
}

// logOf returns the messages of the decisions about a pod, in the log of the scheduler.
func logOf(t *testing.T, lab *harness.Lab, name string) (messages []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(lab.LogDir, "scheduler.log"))
	if err != nil {
		t.Fatal(err)
	}
	var stamped strings.Builder
	for line := range strings.Lines(string(text)) {
		fmt.Fprintf(&stamped, "%s %s", time.Time{}.Format(time.RFC3339), line) // as a kubelet does
	}
	entries, err := explain.OfLog(strings.NewReader(stamped.String()), metav1.NamespaceDefault, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		message, _, _ := strings.Cut(e.Text, ":")
		messages = append(messages, message)
	}
	return messages
}

// explains waits until kubectl berth explain says something of a pod: Events are written a little later.
func explains(t *testing.T, lab *harness.Lab, name string, want ...string) {
	t.Helper()
	harness.Eventually(t, "explain says it of "+name, func(ctx context.Context) (bool, string) {
		var out, notes bytes.Buffer
		command := cli.NewCommand(genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: &out, ErrOut: &notes})
		command.SetArgs([]string{"explain", "pod/" + name, "-n", metav1.NamespaceDefault, "--kubeconfig", lab.Kubeconfig})
		if err := command.ExecuteContext(ctx); err != nil {
			return false, err.Error()
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				return false, "no " + text + " in\n" + out.String() + notes.String()
			}
		}
		return true, ""
	})
}
