// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/berth-dev/berth/test/integration/harness"
)

// TestWarmPlacesPage follows docs/warm-places.md line by line: a model goes back to the GPU where it ran, and its Event says why.
func TestWarmPlacesPage(t *testing.T) {
	p := openPage(t, "warm-places.md")
	p.follow(t, harness.Start(t, p.labArgs(t)...))
}
