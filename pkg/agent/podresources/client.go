// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podresources asks the kubelet which GPUs its device manager has given to which pods.
package podresources

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/types"
	podresourcesv1 "k8s.io/kubelet/pkg/apis/podresources/v1"
)

const (
	// DefaultSocket is where the kubelet serves the API.
	DefaultSocket = "/var/lib/kubelet/pod-resources/kubelet.sock"
	// resourcePrefix is what the resources of GPUs and MIG instances begin with.
	resourcePrefix = "nvidia.com/"
	// replicaSeparator divides the ID of a device that the plugin shares from the number of the share.
	replicaSeparator = "::"

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

// Assigned returns the pods by the devices that they were given. A device that the plugin shares between several pods
// is listed for one of them: it is in use, whoever uses it.
func (c *Client) Assigned(ctx context.Context) (map[string]types.NamespacedName, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response, err := c.lister.List(ctx, &podresourcesv1.ListPodResourcesRequest{})
	if err != nil {
		return nil, fmt.Errorf("pod resources: %w", err)
	}
	return assigned(response.GetPodResources()), nil
}

func assigned(pods []*podresourcesv1.PodResources) map[string]types.NamespacedName {
	out := map[string]types.NamespacedName{}
	for _, pod := range pods {
		name := types.NamespacedName{Namespace: pod.GetNamespace(), Name: pod.GetName()}
		for _, container := range pod.GetContainers() {
			for _, devices := range container.GetDevices() {
				if !strings.HasPrefix(devices.GetResourceName(), resourcePrefix) {
					continue
				}
				for _, id := range devices.GetDeviceIds() {
					device, _, _ := strings.Cut(id, replicaSeparator)
					if other, taken := out[device]; !taken || name.String() < other.String() {
						out[device] = name
					}
				}
			}
		}
	}
	return out
}
