// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planner says how many nodes of which shapes a set of pods needs. It is pure.
//
// Fewest walks through the numbers of nodes of each shape, the best first: the cheapest if the shapes have prices, else
// those of fewest nodes, and of least GPU memory between equals. For each it knows three answers:
//
//   - Bounds excludes it: a necessary condition does not hold, such as the sum of the memory, or how many GPUs those pods
//     need of which no two go on one.
//   - Packs looks for a placement with backtracking. It excludes what has none, and gives up after a number of steps.
//   - What neither excludes is confirmed, or not, by who is asked: the scheduler itself, on nodes that are simulated.
//
// What the planner leaves out of a pod, such as its affinities, makes it exclude less. So an answer is always one that was
// confirmed, and it is proven to be the best if all that is better was excluded. If something better was neither excluded nor
// confirmed, the best of that is the bound.
package planner
