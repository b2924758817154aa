// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// nodeWith returns a Node that its kubelet has said to be ready.
func nodeWith(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}}
}

// gpuWith reports one GPU with a fault, or none if it is empty.
func gpuWith(t *testing.T, node, fault string) *gpunode.Object {
	d := berthv1alpha1.GPUDevice{UUID: "GPU-a", Index: 3, Health: berthv1alpha1.DeviceHealthy, Reason: fault}
	if fault != "" {
		d.Health = berthv1alpha1.DeviceUnhealthy
	}
	return objectOf(t, &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: berthv1alpha1.GPUNodeStatus{Devices: []berthv1alpha1.GPUDevice{d}}})
}

func leaseOf(node string, renewed time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: berthv1alpha1.Namespace, Name: node},
		Spec:       coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: renewed}, LeaseDurationSeconds: new(int32(60))},
	}
}

// condition reconciles a node, and returns its conditions, with when they began, and when it is looked at again.
func (w *world) condition(node string) ([]string, time.Duration) {
	w.t.Helper()
	result, err := w.health.Reconcile(w.t.Context(), request("", node))
	if err != nil {
		w.t.Fatal(err)
	}
	got := &corev1.Node{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: node}, got); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, c := range got.Status.Conditions {
		text := fmt.Sprintf("%s=%s", c.Type, c.Status)
		if c.Type == berthv1alpha1.ConditionGPUUnhealthy {
			text += fmt.Sprintf(" %s since %s: %s", c.Reason, c.LastTransitionTime.Sub(testTime), c.Message)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out, result.RequeueAfter
}

func (w *world) wantCondition(what, want string) time.Duration {
	w.t.Helper()
	got, again := w.condition("n1")
	all := []string{want, "Ready=True"}
	if want == "" {
		all = all[1:]
	}
	if diff := cmp.Diff(all, got); diff != "" {
		w.t.Errorf("%s (-want +got)\n%s", what, diff)
	}
	return again
}

const healthySince0 = "GPUUnhealthy=False GPUsAreHealthy since 0s: no GPU of the node has a fault"

func TestNodeTellsOfTheHealthOfItsGPUs(t *testing.T) {
	w := newWorld(t, nodeWith("n1"), gpuWith(t, "n1", ""), leaseOf("n1", testTime.Add(time.Hour)))
	if again := w.wantCondition("no fault", healthySince0); again < conditionLook || again > conditionLook*6/5 {
		t.Errorf("looked at again after %s", again)
	}
	w.advance(time.Minute)
	w.wantCondition("nothing new", healthySince0)
	w.report(gpuWith(t, "n1", "Xid79"))
	w.wantCondition("a fault", "GPUUnhealthy=True Xid79 since 1m0s: GPU 3 (GPU-a): Xid79")
	w.advance(time.Minute)
	w.report(gpuWith(t, "n1", "DeviceLost"))
	w.wantCondition("another fault is no transition", "GPUUnhealthy=True DeviceLost since 1m0s: GPU 3 (GPU-a): DeviceLost")
	w.report(gpuWith(t, "n1", ""))
	w.wantCondition("repaired", "GPUUnhealthy=False GPUsAreHealthy since 2m0s: no GPU of the node has a fault")
	w.delete(&gpunode.Object{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	w.wantCondition("no agent any more", "")
}

func TestNodeOfASilentAgentTellsThatNothingIsKnown(t *testing.T) {
	w := newWorld(t, nodeWith("n1"), gpuWith(t, "n1", "Xid79"), leaseOf("n1", testTime))
	w.wantCondition("it lives", "GPUUnhealthy=True Xid79 since 0s: GPU 3 (GPU-a): Xid79")
	w.advance(2 * conditionLook)
	if again := w.wantCondition("it is silent", "GPUUnhealthy=Unknown AgentSilent since 10m0s: "+
		"the node's agent has not renewed its Lease; before, GPU 3 (GPU-a): Xid79"); again != staleRetry {
		t.Errorf("looked at again after %s", again)
	}
	w.advance(time.Minute)
	w.delete(leaseOf("n1", testTime))
	if err := w.client.Create(t.Context(), leaseOf("n1", w.clock.Now())); err != nil {
		t.Fatal(err)
	}
	w.wantCondition("it is back", "GPUUnhealthy=True Xid79 since 11m0s: GPU 3 (GPU-a): Xid79")
}

// TestNodeMadeAnewGetsItsCondition also for the first time: it may come after its report.
func TestNodeMadeAnewGetsItsCondition(t *testing.T) {
	w := newWorld(t, gpuWith(t, "n1", ""), leaseOf("n1", testTime.Add(time.Hour)))
	if _, err := w.health.Reconcile(t.Context(), request("", "n1")); err != nil {
		t.Fatalf("without a Node: %v", err)
	}
	if err := w.client.Create(t.Context(), nodeWith("n1")); err != nil {
		t.Fatal(err)
	}
	w.advance(2 * conditionLook)
	w.wantCondition("made", "GPUUnhealthy=False GPUsAreHealthy since 10m0s: no GPU of the node has a fault")
}

// TestReportsThatSayNothingNewCostNoRequest: reports change every second.
func TestReportsThatSayNothingNewCostNoRequest(t *testing.T) {
	w := newWorld(t, nodeWith("n1"), gpuWith(t, "n1", ""), leaseOf("n1", testTime.Add(time.Hour)))
	w.condition("n1")
	requests := 0
	w.health.live = interceptor.NewClient(w.client.(client.WithWatch), interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			requests++
			return nil
		},
	})
	for range 100 {
		w.advance(time.Second)
		w.condition("n1")
	}
	if requests > 0 {
		t.Errorf("%d requests", requests)
	}
}
