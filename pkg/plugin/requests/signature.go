// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package requests

import "github.com/berth-dev/berth/pkg/gpustate"

// OptionSignature is everything of an option that decides where it fits, and how well.
type OptionSignature struct {
	Shares  []uint64
	Take    uint32
	Outside uint64
	OfFree  bool
	Alone   bool
}

// OptionSignatures returns those of a request's options, in their order.
func OptionSignatures(r *gpustate.Request) []OptionSignature {
	var signatures []OptionSignature
	for i := range r.Options() {
		o := &r.Options()[i]
		s := OptionSignature{Take: uint32(o.Take), Outside: o.Outside.Uint64(), OfFree: o.OfFree, Alone: o.Alone}
		for _, share := range o.Shares {
			s.Shares = append(s.Shares, share.Uint64())
		}
		signatures = append(signatures, s)
	}
	return signatures
}
