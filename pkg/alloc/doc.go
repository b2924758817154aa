// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package alloc is the pure core of Berth: which GPUs a pod gets, how much memory is booked on each. It knows nothing of Kubernetes, reads no clock, logs nothing and changes
// nothing: every function is a function of its arguments.
//
// # Units and invariants
//
// Memory is Bytes; a Ratio is parts per million of a device's total. A Node is a snapshot of one node's devices; what
// can still be booked on one of them is capacity − used, and nothing at all while it is blocked. Every check is per
// device, never by a total over devices: Validate is the one check, and whatever Plan returns passes it.
//
// We err towards not placing: arithmetic saturates in the direction of "full", an unknown device, a device named twice
// or a share of zero bytes is an error, and a node of more than MaxDevices devices fits nothing.
//
// # The order of allocations
//
// Plan returns one allocation per viable option: the best set of devices for it. Best first means
//
//  1. fewest devices (options differ in nothing else);
//  2. the strategy, in steps of 64 MiB, which is as fine as use is measured:
//     MostAllocated: the least free memory on the chosen devices, which leaves the least over;
//     LeastAllocated: the most;
//     Fragmentation: the least growth of memory that is free but of no use to the node's mix of requests, or without one in pieces
//     too small to use;
//  3. devices of one model before unlike ones, where the engine can use unlike ones at all;
//  4. the most fast links within the set;
//  5. a set on one NUMA node before one on several, where the NUMA node of every device is known;
//  6. the strategy, to the byte;
//  7. the devices' UUIDs, so that there is always one winner.
//
// Within the set, shares are matched to devices largest first, each to the device on which it leaves the least
// (LeastAllocated: the most), ties by UUID. No step depends on the order in which devices are listed.
package alloc
