// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/agent/agenttest"
	"github.com/berth-dev/berth/pkg/agent/containerruntime"
	"github.com/berth-dev/berth/pkg/agent/kube"
)

var _ agent.Client = (*kube.Client)(nil)

func newClient(t *testing.T) (*kube.Client, *agenttest.Server) {
	t.Helper()
	server := agenttest.NewServer(t)
	client, err := kube.NewClient(&rest.Config{Host: server.URL}, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func status() *berthv1alpha1.GPUNodeStatus {
	return &berthv1alpha1.GPUNodeStatus{
		DriverVersion: "580.159.04",
		Devices: []berthv1alpha1.GPUDevice{{
			UUID:   "GPU-a",
			Health: berthv1alpha1.DeviceHealthy,
			Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse("80Gi"), Used: resource.MustParse("1Gi")},
		}},
	}
}

func TestApplyMakesTheObjectOwnedByItsNode(t *testing.T) {
	client, server := newClient(t)
	if _, err := client.Report(t.Context()); !apierrors.IsNotFound(err) {
		t.Fatalf("before: %v, want not found", err)
	}
	version, err := client.Apply(t.Context(), status())
	if err != nil {
		t.Fatal(err)
	}
	gn, err := client.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if gn.ResourceVersion != version || version == "" {
		t.Errorf("resource version %q, Apply returned %q", gn.ResourceVersion, version)
	}
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node-1", UID: "node-uid"}}
	if diff := cmp.Diff(owner, server.Node().OwnerReferences); diff != "" {
		t.Errorf("owner (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(status(), &gn.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestApplyWithoutTheRightToReadNodes(t *testing.T) {
	client, server := newClient(t)
	server.Refuse(func(r *http.Request) int {
		if strings.HasPrefix(r.URL.Path, "/api/v1/nodes") {
			return http.StatusForbidden
		}
		return 0
	})
	if _, err := client.Apply(t.Context(), status()); err != nil {
		t.Fatal(err)
	}
	if owner := server.Node().OwnerReferences; owner != nil {
		t.Errorf("owner %v", owner)
	}
}

func TestApplyPassesOnWhatTheServerSays(t *testing.T) {
	client, server := newClient(t)
	server.Refuse(func(*http.Request) int { return http.StatusForbidden })
	_, err := client.Apply(t.Context(), status())
	if !apierrors.IsForbidden(err) && (err == nil || !strings.Contains(err.Error(), "403")) {
		t.Errorf("got %v, want forbidden", err)
	}
}

func TestRenewLease(t *testing.T) {
	client, server := newClient(t)
	now := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
	for i := range 3 {
		if err := client.RenewLease(t.Context(), now.Add(time.Duration(i)*10*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	lease, renewals := server.Lease()
	if renewals != 3 || lease.Name != "node-1" || lease.Namespace != "berth-system" || *lease.Spec.HolderIdentity != "node-1" ||
		!lease.Spec.RenewTime.Time.Equal(now.Add(20*time.Second)) || len(lease.OwnerReferences) != 1 {
		t.Errorf("after %d renewals, the Lease is %+v", renewals, lease)
	}
}

func TestRuntime(t *testing.T) {
	client, server := newClient(t)
	got, err := client.Runtime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := containerruntime.Node{Version: "containerd://2.1.4", Handlers: []string{"", "runc", "nvidia"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the node's container runtime (-want +got):\n%s", diff)
	}
	server.Refuse(func(*http.Request) int { return http.StatusForbidden })
	if got, err := client.Runtime(t.Context()); err == nil {
		t.Errorf("without the right to read it: %+v", got)
	}
}
