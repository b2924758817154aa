// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package feed tells what happens in the cluster: to the tracker first, then to the rooms that wake, follow and watch. It is
// the only room with informers' handlers. Each object is told with its own words: a pod is seen, or gone.
package feed
