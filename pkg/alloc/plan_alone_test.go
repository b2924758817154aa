// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import "testing"

func TestAnOptionThatWouldBeAlone(t *testing.T) {
	request := func(alone bool) *Request {
		r, err := NewRequest([]Option{{Shares: []Bytes{GiB(30)}, TensorParallelSize: 1, Alone: alone}}, false)
		if err != nil {
			t.Fatal(err)
		}
		return &r
	}
	gpu := func(used, foreign Bytes) *Node {
		return &Node{Devices: []Device{{UUID: "GPU-0", Total: GiB(80), Capacity: GiB(79), Used: used, Foreign: foreign}}}
	}
	tests := []struct {
		name   string
		node   *Node
		fits   bool
		reason Reason // of the device
	}{
		{name: "an empty GPU", node: gpu(Bytes{}, Bytes{}), fits: true},
		{name: "memory of no pod is no company", node: gpu(GiB(2), GiB(2)), fits: true},
		{name: "but it can be too much", node: gpu(GiB(50), GiB(50)), reason: ReasonInsufficientFree},
		{name: "another pod is", node: gpu(GiB(3), GiB(2)), reason: ReasonNotAlone},
		{name: "too little is that", node: gpu(GiB(60), Bytes{}), reason: ReasonInsufficientFree},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plans := Plan(tt.node, request(true), MostAllocated)
			if got := len(plans) == 1; got != tt.fits || Fits(tt.node, request(true)) != tt.fits {
				t.Errorf("%d plans, want it to fit: %v", len(plans), tt.fits)
			}
			if tt.fits && plans[0].Devices[0].Memory != GiB(30) {
				t.Errorf("the plan has %v, want its share", plans[0].Devices)
			}
			if got := Explain(tt.node, request(true))[0].Devices[0].Reason; got != tt.reason {
				t.Errorf("the GPU is judged %q, want %q", got, tt.reason)
			}
			if !CanEverFit(tt.node, request(true)) {
				t.Error("it could never fit")
			}
			if shared := request(true).Sharing(); Fits(tt.node, shared) != Fits(tt.node, request(false)) {
				t.Error("it is not as one that others can join")
			}
		})
	}
}
