// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podresources asks the kubelet which GPUs its device manager has given to which pods.
package podresources

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	podresourcesv1 "k8s.io/kubelet/pkg/apis/podresources/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// DefaultSocket is where the kubelet serves the API.
	DefaultSocket = "/var/lib/kubelet/pod-resources/kubelet.sock"
	// draDriver is NVIDIA's driver of dynamic resource allocation, whose devices are named gpu-<minor number>.
	draDriver = "gpu.nvidia.com"
	// replicaSeparator divides the ID of a device that the plugin shares from the number of the share.
	replicaSeparator = "::"
	// gkePrefix is what the devices of GKE's plugin begin with: nvidia0, and nvidia0/… for what it makes of one.
	gkePrefix = "nvidia"

	timeout         = 5 * time.Second
	maxResponseSize = 16 << 20
)

// Client asks one kubelet. It implements agent.Assignments.
type Client struct {
	conn   *grpc.ClientConn
	lister podresourcesv1.PodResourcesListerClient
}

// New returns a client of the kubelet behind a socket. It connects when it is first asked, and again when it must.
func New(socket string) (*Client, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseSize)))
	if err != nil {
		return nil, fmt.Errorf("pod resources: %w", err)
	}
	return &Client{conn: conn, lister: podresourcesv1.NewPodResourcesListerClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Assigned returns the pods by the devices that they were given, each in the order of their names: a device that is
// shared (time slicing, MPS, a claim of several pods) has more than one.
func (c *Client) Assigned(ctx context.Context) (map[string][]types.NamespacedName, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response, err := c.lister.List(ctx, &podresourcesv1.ListPodResourcesRequest{})
	if err != nil {
		return nil, fmt.Errorf("pod resources: %w", err)
	}
	return assigned(response.GetPodResources()), nil
}

func assigned(pods []*podresourcesv1.PodResources) map[string][]types.NamespacedName {
	out := map[string][]types.NamespacedName{}
	for _, pod := range pods {
		name := types.NamespacedName{Namespace: pod.GetNamespace(), Name: pod.GetName()}
		for _, container := range pod.GetContainers() {
			for _, device := range devicesOf(container) {
				if !slices.Contains(out[device], name) {
					out[device] = append(out[device], name)
				}
			}
		}
	}
	for _, names := range out {
		slices.SortFunc(names, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	}
	return out
}

// devicesOf returns the GPUs of a container. A device plugin may call its resource anything, but not its devices: those
// are known by their UUID, and those with the stock plugin's device-id-strategy "index" by the resource.
func devicesOf(container *podresourcesv1.ContainerResources) (out []string) {
	for _, devices := range container.GetDevices() {
		for _, id := range devices.GetDeviceIds() {
			device, _, _ := strings.Cut(id, replicaSeparator)
			if strings.HasPrefix(device, gkePrefix) {
				device, _, _ = strings.Cut(device, "/")
			}
			isUUID := strings.HasPrefix(device, "GPU-") || strings.HasPrefix(device, "MIG-")
			if isUUID || berthv1alpha1.IsWholeGPU(corev1.ResourceName(devices.GetResourceName())) {
				out = append(out, device)
			}
		}
	}
	for _, claim := range container.GetDynamicResources() {
		for _, r := range claim.GetClaimResources() {
			if r.GetDriverName() == draDriver {
				out = append(out, r.GetDeviceName())
			}
		}
	}
	return out
}
