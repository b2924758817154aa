// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-dev/berth/pkg/alloc"
)

// testFailover kills the process that leads, while pods keep coming.
func testFailover(t *testing.T, c *cluster) {
	const perStage = 4
	var pods []*corev1.Pod
	add := func() {
		for range perStage {
			pod := newPod(fmt.Sprint("arriving-", len(pods)), "20Gi")
			c.create(t, pod)
			pods = append(pods, pod)
		}
	}
	if replicas := len(c.systemPods(t, "scheduler")); replicas != 2 {
		t.Fatalf("%d schedulers run, want 2", replicas)
	}
	add()
	first := c.leader(t)
	leader := c.podOf(t, first)
	node := c.worker(t, leader.Spec.NodeName)
	node.run(t, "kill", "-9", strconv.Itoa(node.pidOf(t, leader, "scheduler")))
	add()
	eventually(t, "another process leads", func(context.Context) (bool, string) {
		now := c.leader(t)
		return now != "" && now != first, now
	})
	t.Logf("%s led, now it is %s", first, c.leader(t))
	add()
	for _, pod := range pods {
		c.waitReady(t, pod)
	}
	c.checkBooks(t)
}

// leader returns who leads: the identity that each process of a scheduler makes up for itself.
func (c *cluster) leader(t *testing.T) string {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: systemNamespace, Name: "berth-scheduler"}, lease); err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

// podOf returns the scheduler's pod of an identity, which is the host's name and something random.
func (c *cluster) podOf(t *testing.T, identity string) *corev1.Pod {
	t.Helper()
	name, _, _ := strings.Cut(identity, "_")
	for _, pod := range c.systemPods(t, "scheduler") {
		if pod.Name == name {
			return &pod
		}
	}
	t.Fatalf("the leader, %q, is no pod", identity)
	return nil
}

// checkBooks checks that no GPU has been given away twice.
func (c *cluster) checkBooks(t *testing.T) {
	t.Helper()
	var pods corev1.PodList
	if err := c.client.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	booked := map[string]alloc.Bytes{}
	for i := range pods.Items {
		for _, share := range allocationOf(t, &pods.Items[i]).Devices {
			booked[share.UUID] = booked[share.UUID].Plus(share.Memory)
		}
	}
	if len(booked) == 0 {
		t.Error("nothing is booked")
	}
	for _, w := range c.workers {
		for _, gpu := range w.state.GPUs {
			if room := alloc.BytesOf(gpu.Memory.Total - gpu.Memory.Reserved); room.Less(booked[gpu.UUID]) {
				t.Errorf("GPU %s has %s and is booked with %s", gpu.UUID, room, booked[gpu.UUID])
			}
		}
	}
}
