// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloctest

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/pkg/alloc"
)

// DrawAmount draws amounts that are often equal, and often nearly so.
func DrawAmount(t *rapid.T, maxGiB int, label string) alloc.Bytes {
	b := alloc.GiB(uint64(rapid.IntRange(0, maxGiB).Draw(t, label)))
	switch rapid.IntRange(0, 5).Draw(t, label+" noise") {
	case 0:
		b = b.Plus(alloc.MiB(uint64(rapid.IntRange(0, 130).Draw(t, label+" MiB"))))
	case 1:
		b = b.Plus(alloc.BytesOf(uint64(rapid.IntRange(0, 3).Draw(t, label+" bytes"))))
	}
	return b
}

// DrawNode draws a small node of up to size devices, with names that are not in the order of their indexes.
func DrawNode(t *rapid.T, size int) *alloc.Node {
	n := &alloc.Node{Name: "node"}
	count := rapid.IntRange(1, size).Draw(t, "devices")
	indexes := rapid.Permutation(Seq(count)).Draw(t, "indexes")
	models := rapid.IntRange(1, 2).Draw(t, "models")
	for i := range count {
		d := alloc.Device{
			UUID:     fmt.Sprintf("GPU-%c", 'a'+i),
			Index:    indexes[i],
			Model:    fmt.Sprintf("model %d", rapid.IntRange(1, models).Draw(t, "model")),
			Capacity: DrawAmount(t, 8, "capacity"),
		}
		d.Total = d.Capacity.Plus(alloc.MiB(512))
		d.Used = DrawAmount(t, 9, "used")
		if rapid.Bool().Draw(t, "empty") {
			d.Used = alloc.Bytes{}
		}
		if rapid.IntRange(0, 7).Draw(t, "blocked") == 0 {
			d.Blocked = alloc.ReasonUnhealthy
		}
		if rapid.IntRange(0, 5).Draw(t, "instance") == 0 {
			d.Parent = fmt.Sprintf("GPU-%d", rapid.IntRange(1, 2).Draw(t, "parent"))
		}
		n.Devices = append(n.Devices, d)
	}
	if rapid.Bool().Draw(t, "NUMA") {
		// Often all of them are known, else the order would hardly ever be looked at.
		least := rapid.SampledFrom([]int{1, 1, 1, 0}).Draw(t, "least NUMA node")
		for i := range count {
			n.Devices[i].NUMA = rapid.IntRange(least, 2).Draw(t, "NUMA node")
		}
	}
	if rapid.Bool().Draw(t, "linked") {
		for i := range count {
			for j := range i {
				if rapid.Bool().Draw(t, "link") {
					n.Devices[i].Links |= 1 << j
					n.Devices[j].Links |= 1 << i
				}
			}
		}
	}
	return n
}

// DrawRequest draws a request of options of up to size devices.
func DrawRequest(t *rapid.T, size int) *alloc.Request {
	var options []alloc.Option
	for _, k := range rapid.SliceOfNDistinct(rapid.IntRange(1, size), 1, 3, rapid.ID).Draw(t, "counts") {
		o := alloc.Option{TensorParallelSize: k}
		even := rapid.Bool().Draw(t, "even")
		for i := range k {
			if even && i > 0 {
				o.Shares = append(o.Shares, o.Shares[0])
				continue
			}
			o.Shares = append(o.Shares, DrawAmount(t, 4, "share").Plus(alloc.MiB(64)))
		}
		slices.SortFunc(o.Shares, func(a, b alloc.Bytes) int { return b.Compare(a) })
		if rapid.IntRange(0, 3).Draw(t, "takes") == 0 {
			o.Take = alloc.Ratio(rapid.IntRange(1, 1_000_000).Draw(t, "take"))
			o.Outside = alloc.MiB(uint64(rapid.IntRange(0, 600).Draw(t, "outside")))
		}
		options = append(options, o)
	}
	r, err := alloc.NewRequest(options, rapid.Bool().Draw(t, "mixed models"))
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

// Seq returns the numbers from 0 to n−1.
func Seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}
