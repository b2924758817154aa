// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package evict finds which pods would have to go so that a request fits on a node, in the cheapest way: Find, and Best
// and Below for when many nodes are compared. Like alloc, on which it builds, it is pure: it knows nothing of Kubernetes,
// reads no clock, logs nothing and changes nothing.
//
// # Invariants
//
//   - Cheapest is by Cost.Compare, the one order of what evictions cost, then by the victims' names.
//   - Once the victims are gone, the plan's allocation passes alloc.Validate; without any one of them nothing would fit.
//   - The plan depends on neither the order of devices nor that of victims.
//   - What is not proven to be the cheapest says so: Plan.Exact. A search never runs for long: its steps are counted.
//   - A blocked device stays blocked, whoever goes.
//
// # How it is found
//
// First the fewest violations of disruption budgets, then the lowest priority up to which victims are enough, then, among
// the victims up to that, the least price: the rest of the cost as one number (phases.go, price.go). For that, each option
// on each set of devices that may be used together has a search of its own, a branch and bound over victims (search.go,
// decide.go). Its bound charges every victim in parts to the devices on which it frees memory (charges.go), frees each
// device at the least charge (cover.go), and matches shares to devices (hungarian.go). Last, among sets of one price, the
// victims unused for longest, and the first by name (refine.go).
package evict
