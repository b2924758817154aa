// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/berth-dev/berth/internal/flagsdoc"
)

func TestTheReferenceHasTheFlags(t *testing.T) {
	flagsdoc.Check(t, "../../../docs/reference/controller.md", "Flags of the controller",
		"[Models](../models.md) explains hubs, hosts and credentials, and has the file of `--config`.", newCommand())
}
