// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-dev/berth/test/integration/harness"
)

// attempts is how many scheduling cycles a lab's scheduler has run.
func attempts(t *testing.T, lab *harness.Lab) (n int) {
	t.Helper()
	for line := range strings.Lines(schedulerMetrics(t, lab)) {
		if !strings.HasPrefix(line, "scheduler_schedule_attempts_total{") {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		if err != nil {
			t.Fatal(err)
		}
		n += int(v)
	}
	return n
}

// TestWakeUpsCostLittle: what helps one of many waiting pods wakes one, and what helps none wakes none.
func TestWakeUpsCostLittle(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	full, other := newSite(t, lab, "full", 1, "80Gi"), newSite(t, lab, "other", 1, "80Gi")
	full.hold(0, "", "70Gi")
	other.hold(0, "", "70Gi")
	const waiting = 40
	pods := make([]*corev1.Pod, waiting)
	for i := range pods {
		pods[i] = harness.Create(t, lab, full.pod(fmt.Sprintf("waits-%02d", i), "60Gi"))
	}
	for _, p := range pods {
		lab.WaitUnschedulable(t, p)
	}
	before := attempts(t, lab)
	for range 10 {
		for _, memory := range []string{"1Gi", "70Gi"} {
			other.hold(0, "", memory)
			time.Sleep(100 * time.Millisecond) // for a scheduler that would try them
		}
	}
	if tried := attempts(t, lab) - before; tried > 2 {
		t.Errorf("20 reports of a node that all pods refuse caused %d cycles", tried)
	}
	before = attempts(t, lab)
	full.hold(0, "", "")
	harness.Eventually(t, "one is bound", func(ctx context.Context) (bool, string) {
		var list corev1.PodList
		if err := lab.Client.List(ctx, &list, client.InNamespace("default")); err != nil {
			return false, err.Error()
		}
		bound := 0
		for i := range list.Items {
			if list.Items[i].Spec.NodeName == full.node.Name {
				bound++
			}
		}
		return bound == 1, fmt.Sprintf("%d are", bound)
	})
	time.Sleep(time.Second) // for a scheduler that would try the others
	if tried := attempts(t, lab) - before; tried > 3 {
		t.Errorf("one GPU for one of %d pods caused %d cycles", waiting, tried)
	}
}
