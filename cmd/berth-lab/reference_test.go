// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"testing"

	"github.com/berth-dev/berth/internal/flagsdoc"
)

func TestTheReferenceHasTheFlags(t *testing.T) {
	root := newCommand(io.Discard)
	flagsdoc.Check(t, "../../docs/reference/berth-lab.md", "berth-lab",
		"[The tutorial](../tutorial.md) uses it. `berth-lab scheduler` and `berth-lab controller` are those programs.",
		root.Commands()...)
}
