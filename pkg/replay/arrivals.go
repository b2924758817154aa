// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math/rand/v2"
	"slices"
)

// Streams of random numbers, each with numbers of its own for the same seed.
const (
	streamArrivals uint64 = iota + 1
	streamNodes
	streamRandom
)

func random(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// Arrivals returns the pods that arrive, as indices into the list, in their order. They are all of the list in an order that
// comes of the seed; where they ask for more than so many percent of a capacity, random ones are left out until they do not;
// then pods drawn from the list, with replacement, come behind them until they ask for that much. Pods that are asked for count,
// placed or not.
func Arrivals(pods []Pod, capacity int64, percent int, seed uint64) []int {
	rnd := random(seed, streamArrivals)
	order, asked := rnd.Perm(len(pods)), int64(0)
	for i := range pods {
		asked += pods[i].Total()
	}
	want := capacity * int64(percent) // in hundredths
	for asked*100 > want {
		i := rnd.IntN(len(order))
		asked -= pods[order[i]].Total()
		order = slices.Delete(order, i, i+1)
	}
	for asked*100 < want {
		i := rnd.IntN(len(pods))
		asked += pods[i].Total()
		order = append(order, i)
	}
	return order
}

// Shuffled returns nodes in an order that comes of the seed.
func Shuffled(nodes []Node, seed uint64) []Node {
	nodes = slices.Clone(nodes)
	random(seed, streamNodes).Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	return nodes
}
