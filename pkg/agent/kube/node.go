// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/pkg/agent/containerruntime"
)

// runtimeTimeout bounds the request.
const runtimeTimeout = 10 * time.Second

// Runtime returns what the kubelet tells of the node's container runtime.
func (c *Client) Runtime(ctx context.Context) (containerruntime.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, runtimeTimeout)
	defer cancel()
	raw, err := c.rest.Get().AbsPath("/api/v1/nodes", c.node).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if err != nil {
		return containerruntime.Node{}, fmt.Errorf("get Node: %w", err)
	}
	var node corev1.Node
	if err := json.Unmarshal(raw, &node); err != nil {
		return containerruntime.Node{}, fmt.Errorf("decode Node: %w", err)
	}
	out := containerruntime.Node{Version: node.Status.NodeInfo.ContainerRuntimeVersion}
	for _, h := range node.Status.RuntimeHandlers {
		out.Handlers = append(out.Handlers, h.Name)
	}
	return out, nil
}
