// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plan says how many nodes of which shapes the pods of manifests need. Which numbers are worth asking about, and
// which are excluded, is found by package planner; whether a number is enough is decided by the scheduler's own code on nodes
// that are simulated, pod by pod in the order of the manifests.
package plan
