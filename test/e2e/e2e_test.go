// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests Berth on a kind cluster: real kubelets, the real NVIDIA container runtime over fake device files,
// and the released agent over an NVML library of our own. make e2e makes the cluster and runs the tests.
package e2e

import "testing"

// TestBerth is one test whose parts follow each other: what is installed in the first is used by the others, and
// taken away by the last.
func TestBerth(t *testing.T) {
	c := newCluster(t)
	before := c.objects(t)
	c.part(t, "docs/install.md, line by line, ends with a bound pod and no warnings", testGuide)
	if t.Failed() {
		t.FailNow() // nothing else can pass
	}
	c.part(t, "a pod lands on a partly used GPU and sees that GPU only", testPartlyUsedGPU)
	c.part(t, "an engine on two GPUs is told so in its arguments, and its sidecars see no GPU", testTwoGPUs)
	c.part(t, "the booked GPU arrives on nodes whose container toolkits differ", testEachToolkit)
	c.part(t, "a model whose size is not known yet is waited for", testUnknownModel)
	c.part(t, "the memory of real processes is found to be their pods'", testAttribution)
	c.part(t, "a victim has its grace period, and its memory is waited for", testPreemption)
	c.part(t, "nobody but the scheduler and the node's agent can say what is not so", testForgery)
	c.part(t, "another scheduler takes over when the leader dies, while pods arrive", testFailover)
	c.part(t, "a node is drained, and comes back", testDrain)
	c.part(t, "uninstalling leaves running pods alone, and nothing else", func(t *testing.T, c *cluster) {
		testUninstall(t, c, before)
	})
	c.part(t, "the chart installs the same", testChart)
	c.part(t, "a kubelet that starts anew takes in again the pods of a node that is full of GPU memory as a resource", testFullNode)
	c.part(t, "taking the chart away leaves nothing", func(t *testing.T, c *cluster) { testChartGone(t, c, before) })
}
