// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agent reports what the GPUs of one node really hold, as the node's GPUNode.
//
//	Reader ──Reading──▶ observer ──▶ status ──▶ publisher ──▶ GPUNode (on change, at most once a second)
//	(NVML)               ▲  │                      │
//	Attributor ──────────┤  └─▶ metrics            └────────▶ Lease (every 10 s, while the report is true)
//	PodResources ────────┘
//
// Each part is an interface with one implementation beside it, so that each is tested alone and the lab can run
// thousands of agents in one process over readers of its own:
//
//   - Reader is implemented by package nvml, the only importer of go-nvml;
//   - Attributor by package cgroup, from /proc;
//   - Assignments by package podresources, from the kubelet;
//   - Names by package podlogs, from the kubelet's folders of logs;
//   - Client by package kube, from the API server.
//
// The agent sees no pods of the API: what pods were given is compared with the report by the controller.
//
// Whatever goes wrong, the report errs towards "not free": memory of unknown owner is reported as foreign, a device
// that cannot be read as unhealthy, and the Lease is renewed only while the report is what the agent last saw.
package agent
