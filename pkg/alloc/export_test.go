// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

// Weight is the formula that the oracle shares with the planner.
func (s Strategy) Weight(o *Option, d *Device) uint64 { return s.weight(o, d, d.Free()) }
