// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/agent/agenttest"
	"github.com/berth-dev/berth/pkg/agent/containerruntime"
	"github.com/berth-dev/berth/pkg/agent/kube"
)

var (
	_ agent.Client        = (*kube.Client)(nil)
	_ agent.PodSource     = (*kube.Pods)(nil)
	_ agent.EventRecorder = (*kube.Events)(nil)
)

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

func TestPods(t *testing.T) {
	_, server := newClient(t)
	client, err := kube.NewREST(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := kube.NewPods(client, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	reference := corev1.EnvVar{Name: "NVIDIA_VISIBLE_DEVICES", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['berth.dev/gpu-uuids']"}}}
	failed := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: "why"}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "static", UID: "mirror",
			Annotations: map[string]string{
				"kubernetes.io/config.hash":        "8daa50c3a64c9ff60bb9eab7b44b56fd",
				berthv1alpha1.AnnotationAllocation: "{}",
				"nvidia.cdi.k8s.io/container.c":    "berth.dev/gpu=GPU-a",
				"large":                            "x",
			},
		},
		Spec: corev1.PodSpec{SchedulerName: "berth", Containers: []corev1.Container{
			{Name: "other", Env: []corev1.EnvVar{{Name: "NVIDIA_VISIBLE_DEVICES", Value: "void"}}},
			{Name: "c", Image: "large", Env: []corev1.EnvVar{{Name: "LARGE", Value: "x"}, reference}},
		}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Image: "large", State: failed}}},
	}
	server.SetPod(pod)
	go pods.Run(t.Context())
	find := func(f func() (*corev1.Pod, bool)) *corev1.Pod {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if p, ok := f(); ok {
				return p
			}
		}
		t.Fatal("the pod did not arrive")
		return nil
	}
	for _, uid := range []types.UID{"mirror", "8daa50c3a64c9ff60bb9eab7b44b56fd"} {
		p := find(func() (*corev1.Pod, bool) { return pods.PodByUID(uid) })
		if p.Name != "static" || p.Spec.SchedulerName != "berth" || len(p.Annotations) != 3 {
			t.Errorf("by UID %s: %+v", uid, p)
		}
		if diff := cmp.Diff([]corev1.Container{{Name: "c", Env: []corev1.EnvVar{reference}}}, p.Spec.Containers); diff != "" {
			t.Errorf("containers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]corev1.ContainerStatus{{Name: "c", State: failed}}, p.Status.ContainerStatuses); diff != "" {
			t.Errorf("how they fare (-want +got):\n%s", diff)
		}
	}
	server.SetPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "later", UID: "u2"}})
	find(func() (*corev1.Pod, bool) {
		return pods.PodByName(types.NamespacedName{Namespace: "ns", Name: "later"})
	})
	if n := len(pods.Pods()); n != 2 {
		t.Errorf("%d pods, want 2", n)
	}
}

func TestEvents(t *testing.T) {
	_, server := newClient(t)
	client, err := kube.NewREST(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	events := kube.NewEvents(client, "node-1", clock.RealClock{})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: strings.Repeat("n", 253), UID: "u"}}
	events.Warn(pod, "GPUMemoryOveruse", strings.Repeat("too much ", 200))
	events.Warn(pod, "GPUHandOffMismatch", "elsewhere")
	go events.Run(t.Context())
	deadline := time.Now().Add(10 * time.Second)
	for len(server.Events()) < 2 {
		if time.Now().After(deadline) {
			t.Fatal("the Events were not written")
		}
		time.Sleep(time.Millisecond)
	}
	got := server.Events()
	reasons := []string{got[0].Reason, got[1].Reason}
	slices.Sort(reasons)
	if diff := cmp.Diff([]string{"GPUHandOffMismatch", "GPUMemoryOveruse"}, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	for _, e := range got {
		if e.Namespace != "ns" || e.Regarding.UID != "u" || e.Type != "Warning" || len(e.Note) > 1024 || len(e.Name) > 253 ||
			e.ReportingInstance != "node-1" {
			t.Errorf("got %+v", e)
		}
	}
	if got[0].Name == got[1].Name {
		t.Errorf("both are named %s", got[0].Name)
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
