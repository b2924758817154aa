// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podresources

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"
	podresourcesv1 "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// kubelet serves the API with what a kubelet would say.
type kubelet struct {
	podresourcesv1.UnimplementedPodResourcesListerServer
	pods []*podresourcesv1.PodResources
}

func (k *kubelet) List(context.Context, *podresourcesv1.ListPodResourcesRequest) (*podresourcesv1.ListPodResourcesResponse, error) {
	return &podresourcesv1.ListPodResourcesResponse{PodResources: k.pods}, nil
}

func pod(name, resource string, ids ...string) *podresourcesv1.PodResources {
	return &podresourcesv1.PodResources{
		Namespace: "ns", Name: name,
		Containers: []*podresourcesv1.ContainerResources{
			{Name: "sidecar"},
			{Name: "main", Devices: []*podresourcesv1.ContainerDevices{{ResourceName: resource, DeviceIds: ids}}},
		},
	}
}

func claim(name, driver, device string) *podresourcesv1.PodResources {
	return &podresourcesv1.PodResources{
		Namespace: "ns", Name: name,
		Containers: []*podresourcesv1.ContainerResources{{Name: "main", DynamicResources: []*podresourcesv1.DynamicResource{{
			ClaimNamespace: "ns", ClaimName: "c",
			ClaimResources: []*podresourcesv1.ClaimResource{{DriverName: driver, PoolName: "node", DeviceName: device}},
		}}}},
	}
}

func TestAssigned(t *testing.T) {
	k := &kubelet{pods: []*podresourcesv1.PodResources{
		pod("train", "nvidia.com/gpu", "GPU-a", "GPU-b"),
		pod("mig", "nvidia.com/mig-1g.10gb", "MIG-c"),
		pod("shared-2", "nvidia.com/gpu.shared", "GPU-d::1"),
		pod("shared-1", "nvidia.com/gpu.shared", "GPU-d::0"),
		pod("index", "nvidia.com/gpu", "3"),
		pod("gke", "nvidia.com/gpu", "nvidia0/vgpu1"),
		pod("renamed", "example.test/gpu", "GPU-e"),
		pod("network", "rdma/hca", "3"),
		pod("network-2", "nvidia.com/hostdev", "0000:07:00.0"),
		pod("none", "nvidia.com/gpu"),
		claim("claim-1", "gpu.nvidia.com", "gpu-7"),
		claim("claim-2", "gpu.nvidia.com", "gpu-7"),
		claim("nic", "nic.test", "gpu-8"),
	}}
	client := serve(t, k)
	got, err := client.Assigned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := func(names ...string) (out []types.NamespacedName) {
		for _, n := range names {
			out = append(out, types.NamespacedName{Namespace: "ns", Name: n})
		}
		return out
	}
	want := map[string][]types.NamespacedName{
		"GPU-a": names("train"), "GPU-b": names("train"), "MIG-c": names("mig"), "GPU-d": names("shared-1", "shared-2"),
		"3": names("index"), "nvidia0": names("gke"), "GPU-e": names("renamed"), "gpu-7": names("claim-1", "claim-2"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("assigned (-want +got):\n%s", diff)
	}
}

func TestNoKubeletIsAnError(t *testing.T) {
	client, err := New(filepath.Join(t.TempDir(), "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if got, err := client.Assigned(t.Context()); err == nil {
		t.Errorf("got %v without a kubelet", got)
	}
}

// serve returns a client of a kubelet on a socket that ends with the test.
func serve(t *testing.T, k *kubelet) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "kubelet.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	podresourcesv1.RegisterPodResourcesListerServer(server, k)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := New(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
