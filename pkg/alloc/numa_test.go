// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/alloc"
)

// numaNode is GPUs of 80 GiB, all linked with each other, named in their order: one for each NUMA node given, which is
// counted from 1.
func numaNode(numa ...int) *alloc.Node {
	n := &alloc.Node{Name: "node"}
	for i, at := range numa {
		n.Devices = append(n.Devices, alloc.Device{
			UUID: fmt.Sprintf("GPU-%c", 'a'+i), Index: i, Model: "H100", Total: alloc.GiB(80), Capacity: alloc.GiB(80), NUMA: at,
			Links: (1<<len(numa) - 1) &^ (1 << i),
		})
	}
	return n
}

func TestSetsOnOneNUMANode(t *testing.T) {
	tests := []struct {
		name string
		node *alloc.Node
		gpus int
		want []string
	}{
		{
			name: "GPUs of one NUMA node win between equals",
			node: numaNode(1, 2, 1, 2, 1, 2, 1, 2), gpus: 4,
			want: []string{"GPU-a", "GPU-c", "GPU-e", "GPU-g"},
		},
		{
			name: "the NUMA node that has as many",
			node: numaNode(1, 2, 2, 2), gpus: 3,
			want: []string{"GPU-b", "GPU-c", "GPU-d"},
		},
		{
			name: "no NUMA node has as many",
			node: numaNode(1, 2, 1, 2), gpus: 3,
			want: []string{"GPU-a", "GPU-b", "GPU-c"},
		},
		{
			name: "one unknown NUMA node is no reason to choose others",
			node: numaNode(1, 2, 1, 0), gpus: 2,
			want: []string{"GPU-a", "GPU-b"},
		},
		{
			name: "links win over NUMA nodes",
			node: func() *alloc.Node {
				n := numaNode(1, 2, 1)
				n.Devices[0].Links, n.Devices[1].Links, n.Devices[2].Links = 1<<1, 1<<0, 0
				return n
			}(),
			gpus: 2,
			want: []string{"GPU-a", "GPU-b"},
		},
		{
			name: "the tighter fit wins over NUMA nodes",
			node: func() *alloc.Node {
				n := numaNode(1, 2, 1)
				n.Devices[1].Used = alloc.GiB(40)
				return n
			}(),
			gpus: 2,
			want: []string{"GPU-a", "GPU-b"},
		},
		{
			name: "a few MiB less that are free do not",
			node: func() *alloc.Node {
				// Two of them have 160 GiB less 20 or 22 MiB free: the same in steps of 64 MiB.
				n := numaNode(1, 2, 1)
				n.Devices[0].Used, n.Devices[1].Used, n.Devices[2].Used = alloc.MiB(10), alloc.MiB(12), alloc.MiB(10)
				return n
			}(),
			gpus: 2,
			want: []string{"GPU-a", "GPU-c"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := alloc.Option{TensorParallelSize: tt.gpus}
			for range tt.gpus {
				o.Shares = append(o.Shares, alloc.GiB(30))
			}
			r, err := alloc.NewRequest([]alloc.Option{o}, false)
			if err != nil {
				t.Fatal(err)
			}
			best, ok := alloc.Best(tt.node, &r, alloc.MostAllocated)
			if !ok {
				t.Fatal("nothing fits")
			}
			var got []string
			for i := range best.Devices {
				got = append(got, best.Devices[i].UUID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("GPUs (-want,+got):\n%s", diff)
			}
		})
	}
}
