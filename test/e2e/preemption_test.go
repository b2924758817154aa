// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// testPreemption: each GPU of a node is held by a pod of low priority that does not end when it is asked to.
func testPreemption(t *testing.T, c *cluster) {
	w := c.workers[0]
	const grace = 6 * time.Second
	slow := func(p *corev1.Pod) {
		seconds := int64(grace / time.Second)
		p.Spec.TerminationGracePeriodSeconds = &seconds
		p.Spec.Containers[0].Command = stubborn
	}
	pids := map[string]int{} // by pod
	gpus := map[string]int{}
	var low []*corev1.Pod
	for i := range gpusPerWorker {
		pod := c.run(t, newPod(fmt.Sprint("low-", i), "60Gi", on(w.name), priority("berth-batch"), slow))
		pids[pod.Name] = w.pidOf(t, pod, "server")
		gpus[pod.Name] = w.index(t, allocationOf(t, pod).Devices[0].UUID)
		w.load(gpus[pod.Name], pids[pod.Name], 58, 10)
		low = append(low, pod)
	}
	w.write(t)
	for gpu := range gpusPerWorker {
		c.waitUsed(t, w, gpu, 58)
	}

	high := newPod("high", "70Gi", on(w.name), priority("berth-interactive"))
	c.create(t, high)
	var victim *corev1.Pod
	eventually(t, "a pod is evicted", func(context.Context) (bool, string) {
		for _, pod := range low {
			c.get(t, pod)
			if pod.DeletionTimestamp != nil {
				victim = pod
				return true, ""
			}
		}
		return false, "none is"
	})
	t.Logf("%s is evicted; it has until %s", victim.Name, victim.DeletionTimestamp)
	c.waitGone(t, victim)
	// The time of deletion is in whole seconds, and is the end of the grace period.
	if now := time.Now(); now.Before(victim.DeletionTimestamp.Add(-time.Second)) {
		t.Errorf("it was gone at %s, before its grace period ended at %s", now, victim.DeletionTimestamp)
	}

	// Its process is gone, but the driver still holds the memory: nobody may load into that.
	const heldFor = 5 * time.Second
	for end := time.Now().Add(heldFor); time.Now().Before(end); time.Sleep(pollInterval) {
		if c.get(t, high); high.Spec.NodeName != "" {
			t.Fatal("the preemptor was bound while the victim's memory was still held")
		}
	}
	w.unload(gpus[victim.Name])
	w.write(t)
	ready := c.waitReady(t, high)
	if got := w.index(t, allocationOf(t, ready).Devices[0].UUID); got != gpus[victim.Name] {
		t.Errorf("the preemptor is on GPU %d, want the victim's, %d", got, gpus[victim.Name])
	}
	for _, pod := range low {
		if pod != victim {
			if c.get(t, pod); pod.DeletionTimestamp != nil {
				t.Errorf("%s was evicted as well", pod.Name)
			}
		}
	}
	if victim.Annotations[berthv1alpha1.AnnotationAllocation] == "" {
		t.Error("the victim had no allocation")
	}
}
