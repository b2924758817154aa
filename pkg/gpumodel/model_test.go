// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumodel

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for name, want := range map[string]string{
		"h100-80": "H100-80", "nvidia l4": "L4-24", "L40S": "L40S-48", "h100": "H100-80",
		"a100": "A100-80, A100-40", "h": "use one of", "": "use one of",
	} {
		m, err := Find(name)
		if got := ""; err == nil {
			if got = m.Short; got != want {
				t.Errorf("%q: %s, want %s", name, got, want)
			}
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}
