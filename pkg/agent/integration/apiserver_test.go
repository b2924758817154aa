// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration_test tests what the agent writes against a real API server.
package integration_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/agent/kube"
	"github.com/berth-dev/berth/pkg/lab/controlplane"
	"github.com/berth-dev/berth/pkg/lab/install"
)

const nodeName = "ip-10-251-103-118.us-west-2.compute.internal"

// fullStatus is 8 GPUs that are all connected, with 64 idle pods.
func fullStatus() *berthv1alpha1.GPUNodeStatus {
	s := &berthv1alpha1.GPUNodeStatus{
		DriverVersion: "580.159.04",
		ObservedTime:  metav1.Now().Rfc3339Copy(),
		Summary:       &berthv1alpha1.GPUSummary{GPUs: 8, Model: "NVIDIA H100 80GB HBM3"},
	}
	uuid := func(i int) string { return fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", i) }
	for i := range 8 {
		d := berthv1alpha1.GPUDevice{
			UUID: uuid(i), Index: int32(i), PCIBusID: fmt.Sprintf("00000000:%02X:00.0", 16+i), Model: "NVIDIA H100 80GB HBM3",
			ComputeCapability: "9.0", Health: berthv1alpha1.DeviceHealthy,
			Memory: berthv1alpha1.GPUMemory{
				Total: resource.MustParse("81559Mi"), Reserved: resource.MustParse("551Mi"), Used: resource.MustParse("77309530112"),
			},
		}
		for j := range 8 {
			if j != i {
				d.Links = append(d.Links, berthv1alpha1.GPULink{Peer: uuid(j), Type: berthv1alpha1.LinkNVLink})
			}
			idle := metav1.Now().Rfc3339Copy()
			d.Processes = append(d.Processes, berthv1alpha1.GPUProcess{
				PodUID:         types.UID(fmt.Sprintf("%08x-1111-4222-8333-444444444444", 8*i+j)),
				Memory:         resource.MustParse("9663680512"),
				LastActiveTime: &idle,
			})
		}
		s.Devices = append(s.Devices, d)
	}
	return s
}

func TestWritesAgainstARealAPIServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	ctx := t.Context()
	cp, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	objects, err := manifests.Objects("crd")
	if err != nil {
		t.Fatal(err)
	}
	if err := install.Apply(ctx, dynamic.NewForConfigOrDie(cp.Config()), objects); err != nil {
		t.Fatal(err)
	}
	admin := kubernetes.NewForConfigOrDie(cp.Config())
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.Namespace}}
	if _, err := admin.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	node, err := admin.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.NewClient(cp.Config(), nodeName)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a full node is stored as it is, in under 16 KiB", func(t *testing.T) {
		version, err := client.Apply(ctx, fullStatus())
		if err != nil {
			t.Fatal(err)
		}
		gn, err := client.Report(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if gn.ResourceVersion != version || len(gn.OwnerReferences) != 1 || gn.OwnerReferences[0].UID != node.UID {
			t.Errorf("resource version %s, want %s; owner %v", gn.ResourceVersion, version, gn.OwnerReferences)
		}
		want := fullStatus()
		want.ObservedTime, gn.Status.ObservedTime = metav1.Time{}, metav1.Time{}
		for _, s := range []*berthv1alpha1.GPUNodeStatus{want, &gn.Status} {
			for i := range s.Devices {
				for j := range s.Devices[i].Processes {
					s.Devices[i].Processes[j].LastActiveTime = nil
				}
			}
		}
		if diff := cmp.Diff(want, &gn.Status); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		stored, err := json.Marshal(gn)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes with the managed fields", len(stored))
		if len(stored) >= 16<<10 {
			t.Errorf("%d bytes with the managed fields", len(stored))
		}
	})
	t.Run("what is no longer reported is gone", func(t *testing.T) {
		s := fullStatus()
		s.Devices = s.Devices[:2]
		s.Devices[0].Processes, s.Devices[0].Links = nil, nil
		s.Devices[1].Health, s.Devices[1].Reason = berthv1alpha1.DeviceUnhealthy, "Xid79"
		if _, err := client.Apply(ctx, s); err != nil {
			t.Fatal(err)
		}
		s.Devices[1].Health, s.Devices[1].Reason = berthv1alpha1.DeviceHealthy, ""
		if _, err := client.Apply(ctx, s); err != nil {
			t.Fatal(err)
		}
		gn, err := client.Report(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if d := gn.Status.Devices; len(d) != 2 || d[0].Processes != nil || d[0].Links != nil || d[1].Reason != "" {
			t.Errorf("got %+v", d)
		}
	})
	t.Run("a report that changes nothing writes nothing", func(t *testing.T) {
		s := fullStatus()
		first, err := client.Apply(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := client.Apply(ctx, s); err != nil || second != first {
			t.Errorf("resource version %s, then %s, %v", first, second, err)
		}
	})
	t.Run("the Lease is made and renewed", func(t *testing.T) {
		now := time.Now()
		for i := range 2 {
			if err := client.RenewLease(ctx, now.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		lease, err := admin.CoordinationV1().Leases(berthv1alpha1.Namespace).Get(ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if want := now.Add(time.Second).Truncate(time.Microsecond); !lease.Spec.RenewTime.Time.Equal(want) || lease.OwnerReferences[0].UID != node.UID {
			t.Errorf("got %+v, want renewed at %s", lease, want)
		}
	})
	t.Run("what the controller writes of forms outlives the agent's writes, and is not the agent's", func(t *testing.T) {
		files := metav1.NewTime(time.Now().Add(-time.Hour)).Rfc3339Copy()
		s := fullStatus()
		s.HandOff = &berthv1alpha1.HandOff{
			Runtimes:    []berthv1alpha1.RuntimeHandOff{{Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI}}},
			ChangedTime: &files, NotInjected: []types.UID{"a"},
		}
		apply := func() *berthv1alpha1.HandOff {
			t.Helper()
			if _, err := client.Apply(ctx, s); err != nil {
				t.Fatal(err)
			}
			gn, err := client.Report(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return gn.Status.HandOff
		}
		apply()
		gpuNodes := dynamic.NewForConfigOrDie(cp.Config()).Resource(berthv1alpha1.GroupVersion.WithResource("gpunodes"))
		patch := func(shown string) {
			t.Helper()
			body := []byte(`{"status":{"handOff":{"shown":` + shown + `}}}`)
			if _, err := gpuNodes.Patch(ctx, nodeName, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "controller"}, "status"); err != nil {
				t.Fatal(err)
			}
		}
		patch(`[{"handler":"nvidia","form":"UUID","works":false,"message":"no","seenTime":"2026-01-01T00:00:00Z"}]`)
		s.HandOff.NotInjected = nil
		if h := apply(); len(h.Shown) != 1 || len(h.Runtimes) != 1 || h.NotInjected != nil {
			t.Errorf("after the agent's next write: %+v", h)
		}
		patch("null")
		if h := apply(); len(h.Shown) != 0 || len(h.Runtimes) != 1 {
			t.Errorf("after the controller took it away: %+v", h)
		}
	})
}
