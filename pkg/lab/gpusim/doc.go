// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gpusim simulates the GPUs of nodes: their memory and the processes on them, which follow the pods of the
// node as real ones do. A pod's memory grows while it loads, stays while it runs, and drains over some seconds
// after it is gone, as the teardown of a CUDA context does.
//
// A Hardware stands in for the driver of one node: it is the agent's Reader and Attributor. What it simulates is
// said by annotations of the Node and of its pods, at any time, by anyone who may write them:
//
//	kubectl annotate node gpu-0 --overwrite lab.berth.dev/foreign-memory=0=60Gi lab.berth.dev/unhealthy=3=Xid79
//	kubectl annotate pod server --overwrite lab.berth.dev/gpu-memory=50Gi lab.berth.dev/gpu-active=false
package gpusim
