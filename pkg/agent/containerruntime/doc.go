// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package containerruntime finds out by a node's files how its container runtime can be told which GPUs a container
// gets: which handlers it has, which of them are the NVIDIA container runtime, and how that is configured. It only
// reads. What cannot be read is not guessed: such a handler is left out of the result.
//
// Files are a hint. They can be newer than the process that read them, so the agent believes what pods show more.
package containerruntime
