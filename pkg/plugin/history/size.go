// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package history

import "github.com/berth-dev/berth/pkg/alloc"

// sizes are the upper bounds of the classes by which waiting times are told apart: a pod that asks for little finds a
// place where one that asks for a whole GPU does not.
var sizes = []struct {
	gib  uint64
	name string
}{{16, "16Gi"}, {40, "40Gi"}, {80, "80Gi"}, {320, "320Gi"}}

// sizeClass returns the class of what was booked on all devices together.
func sizeClass(devices []alloc.DeviceShare) string {
	var sum alloc.Bytes
	for _, d := range devices {
		sum = sum.Plus(d.Memory)
	}
	for _, s := range sizes {
		if sum.Uint64() <= s.gib<<30 {
			return s.name
		}
	}
	return "more"
}
