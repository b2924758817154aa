// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package jsonsize

import "testing"

func TestValues(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `1`: 0, `[]`: 1, `[1,2,3]`: 3, `{"a":1,"b":[{},{}]}`: 6, `["a,b","[\"{,"]`: 2, `["never ends,`: 1,
	} {
		if got := Values([]byte(text)); got != want {
			t.Errorf("%s: %d values, want %d", text, got, want)
		}
	}
}
