// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package handoff runs the real NVIDIA container runtimes, of several versions, on bundles as containerd would, with
// each configuration that installers of the toolkit leave on nodes, and sees which GPUs a container gets by each way to
// name them. What the agent finds out by the same node's files must be just that. docs/handoff.md has the table.
//
// Real are the toolkit's runtimes, hooks and nvidia-ctk; not real are the driver (test/nvmlmock), the low-level runtime,
// which does nothing, and nvidia-container-cli, which writes down its arguments. Device nodes are made, which takes root.
package handoff
