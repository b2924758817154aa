// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/agent/kube"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
)

// agentAccount is the account of the agents.
const agentAccount = "berth-agent"

// runAgent runs the real agent of a node over simulated hardware, under a token bound to the Node, until ctx ends. It
// calls reported when the first report is written.
func (l *Lab) runAgent(ctx context.Context, node *corev1.Node, hardware *gpusim.Hardware, reported func()) error {
	config, err := l.cp.ServiceAccountConfig(ctx, berthv1alpha1.Namespace, agentAccount, node)
	if err != nil {
		return err
	}
	client, err := kube.NewClient(config, node.Name)
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Options{
		NodeName: node.Name, Reader: hardware, Attributor: hardware, Names: hardware,
		Client: &startingClient{Client: client, reported: sync.OnceFunc(reported)},
	})
	if err != nil {
		return err
	}
	if l.opts.Monitoring != nil {
		defer l.targets.setAgent(node.Name, a)()
	}
	return a.Run(ctx)
}

// startingClient tells when the first report is written.
type startingClient struct {
	agent.Client
	reported func()
}

// Apply writes a report.
func (c *startingClient) Apply(ctx context.Context, status *berthv1alpha1.GPUNodeStatus) (string, error) {
	version, err := c.Client.Apply(ctx, status)
	if err == nil {
		c.reported()
	}
	return version, err
}
