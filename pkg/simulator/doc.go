// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package simulator runs the scheduler on a snapshot of a cluster: the real plugin in the real framework, with the
// framework's own queue, cache and event handlers. Nothing of a decision is written here. What is simulated is what the
// scheduler talks to:
//
//	Snapshot ──▶ world ──events──▶ informers ──▶ scheduler.Scheduler with plugin.Berth
//	               ▲  ▲                              │
//	               │  └── api ◀────────── requests ──┘   Bindings, evictions, statuses
//	               │
//	            kubelet, agent: pods start, turn Ready and go; reports of GPU memory
//
// An informer here delivers an event while the change is made, to one handler after the other, in the order in which
// they were registered. The clock stands still while somebody works. The scheduler is driven by hand, one pod after the
// other, with a parallelism of 1 and all nodes looked at. So the same snapshot gives the same answer. Requests end in
// this process: there is no connection that a write could leave it by.
//
// Feature gates and metrics belong to the process. New turns SchedulerAsyncPreemption off, which changes when victims
// are deleted, within a cycle instead of beside it, and nothing of who they are.
//
// What differs from a cluster: a volume counts as bound once a node is chosen (VolumeBinding's PreBind would wait for
// controllers); HTTP extenders, and plugins that this program does not have, are left out; what the snapshot's Notes say
// is missing. Between nodes of equal score the scheduler takes the one that its heap yields, which depends on the order
// in which it learned of the nodes; here that is the order of their names.
package simulator
