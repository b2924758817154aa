// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/berth-dev/berth/test/integration/harness"
)

// TestEnforcement follows docs/enforcement.md on labs whose nodes say, by an admin's word, what becomes of limits there.
func TestEnforcement(t *testing.T) {
	for _, heading := range []string{"NVIDIAToolkit", "NVIDIAGPUSharing"} {
		t.Run(heading, func(t *testing.T) {
			p := openSection(t, "enforcement.md", heading)
			p.follow(t, harness.Start(t, p.labArgs(t)...))
		})
	}
}
