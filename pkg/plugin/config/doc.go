// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config is what an admin says in the scheduler's configuration: the arguments of the plugin, read strictly, and
// whether they go together with the leader election.
package config

// Name is the name of the plugin in a KubeSchedulerConfiguration.
const Name = "Berth"
