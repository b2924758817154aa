// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

const (
	chaosPods   = 200
	chaosKills  = 10
	chaosNodes  = 9
	waitForPods = 3 * time.Minute
)

// TestSchedulerKilled kills the scheduler ten times while pods arrive and are placed: no GPU is ever overbooked, and
// every pod is placed exactly once.
func TestSchedulerKilled(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	for i := range chaosNodes {
		name := fmt.Sprintf("n%d", i)
		lab.AddNode(t, berthtesting.MakeNode(name), berthtesting.MakeGPUsOf(name, 8, "80Gi").Obj())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range chaosPods {
			// 67 pods of two shares and 133 of one are 267 shares of 19Gi; nine nodes have room for 288.
			pod := berthtesting.MakePod(fmt.Sprintf("p%d", i)).Memory("19Gi")
			if i%3 == 0 {
				pod.Memory("38Gi").GPUCount("2")
			}
			if err := lab.TryCreate(t.Context(), pod.Obj()); err != nil {
				t.Error(err)
			}
			time.Sleep(40 * time.Millisecond)
		}
	})
	for range chaosKills {
		time.Sleep(700 * time.Millisecond)
		if err := syscall.Kill(lab.Child(t, "scheduler"), syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		checkBooks(t, lab)
	}
	wg.Wait()
	waitSettled(t, lab)
	checkBooks(t, lab)
}

// waitSettled waits until every pod is placed; there is room for all.
func waitSettled(t *testing.T, lab *harness.Lab) {
	t.Helper()
	deadline := time.Now().Add(waitForPods)
	for {
		bound := 0
		var pods corev1.PodList
		if err := lab.Client.List(t.Context(), &pods, client.InNamespace("default")); err != nil {
			t.Fatal(err)
		}
		for i := range pods.Items {
			if pods.Items[i].Spec.NodeName != "" {
				bound++
			}
		}
		if bound == chaosPods {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d pods are bound after %s", bound, chaosPods, waitForPods)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
