// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package leader says whether this process leads, so that what only a leader may do is not done by one that was
// stopped, and goes on after another took its place.
//
// Leader election alone does not say so. client-go's elector notices that it lost the lease when it next tries to renew
// it, and it keeps trying for renewDeadline although another process holds it. A process that is stopped (SIGSTOP, a
// paused cgroup, a frozen VM) notices nothing at all until it goes on, in the middle of whatever it was doing.
//
//	own clock   ──┬────────────────┬────────────────────────────────────────┬──────────▶
//	              │ renewal is sent│ its answer comes              age = leaseDuration
//	others' clock ───────┬──────────────────────────────────────────────────────┬──────▶
//	                     │ they see the renewal                                 │ they may take the lease
//
// Others take the lease no sooner than leaseDuration after they saw it renewed, which is after it was sent. So the
// age of a lease counts from before its last successful renewal was *sent*: an answer, or a watch event, may lie in a
// buffer while the process is stopped, and would make an old lease look new. It is measured by the monotonic clock,
// which stops with a frozen VM, and by the wall clock, which people set back; the older age counts.
//
// What a leader sends is bounded too. Begin admits a request of at most d only if the lease has as much left, and a
// margin. A lease is given up (at SIGTERM) only once all admitted requests have ended.
package leader
