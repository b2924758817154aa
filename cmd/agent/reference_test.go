// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/berth-dev/berth/internal/flagsdoc"
)

func TestTheReferenceHasTheFlags(t *testing.T) {
	flagsdoc.Check(t, "../../docs/reference/agent.md", "Flags of the agent",
		"[The agent](../agent.md) explains what it does, and what the manifests set.", newCommand())
}
