// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package testing builds the objects that tests of Berth are about: pods that ask for GPU memory or hold it, and
// GPUNodes. Every builder starts from something valid, so that a test states only what it is about. It imports
// nothing of k8s.io/kubernetes, so that tests that use it can run under the race detector in seconds.
package testing
