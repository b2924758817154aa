// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package testing

import (
	"testing"
	"time"
)

// Epoch is where fake clocks start; the API's timestamps are in whole seconds.
var Epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Eventually waits for what another goroutine does.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}
