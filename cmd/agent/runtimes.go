// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent/containerruntime"
	"github.com/berth-dev/berth/pkg/agent/kube"
)

// hostRuntimes reads the files of the node's container runtimes. It implements agent.Runtimes.
type hostRuntimes struct {
	client  *kube.Client
	root    string
	folders []string

	// node is what the kubelet told last; nil = nothing yet. said is what was last logged.
	node *containerruntime.Node
	said string
}

// Runtimes returns nothing before it is known whose files to look at: other runtimes may have left some.
func (h *hostRuntimes) Runtimes(ctx context.Context) ([]berthv1alpha1.RuntimeHandOff, time.Time) {
	node, err := h.client.Runtime(ctx)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Not asked which container runtime the node has, the last answer stands")
	} else {
		h.node = &node
	}
	if h.node == nil {
		return nil, time.Time{}
	}
	found := containerruntime.Read(h.root, h.folders, *h.node)
	said := ""
	if found.Unknown != nil {
		said = found.Unknown.Error()
	}
	if said != h.said && said != "" {
		klog.FromContext(ctx).Info("How containers are given GPUs is not all known", "reason", said)
	}
	h.said = said
	return found.Runtimes, found.Changed
}
