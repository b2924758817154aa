// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc_test

import "github.com/berth-dev/berth/internal/alloctest"

// Short names for what nearly all tests use.
var (
	node        = alloctest.Node
	gpu         = alloctest.GPU
	blocked     = alloctest.Blocked
	model       = alloctest.OfModel
	request     = alloctest.Request
	even        = alloctest.Even
	devicesOf   = alloctest.UUIDs
	busyNode    = alloctest.BusyNode
	powersOfTwo = alloctest.PowersOfTwo
	drawNode    = alloctest.DrawNode
	drawRequest = alloctest.DrawRequest
	drawAmount  = alloctest.DrawAmount
	seq         = alloctest.Seq
	permuted    = alloctest.Permuted
	instance    = alloctest.Instance
)
