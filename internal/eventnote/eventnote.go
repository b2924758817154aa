// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package eventnote makes texts fit into the notes of Events, wherever Berth writes one.
package eventnote

import "strings"

// MaxBytes is the longest note that the API server takes (NoteLengthLimit in pkg/apis/core/validation of Kubernetes); an
// Event with a longer one is refused, and nobody is told anything.
const MaxBytes = 1024

const ellipsis = "…"

// Fit returns a note that the API server takes: the beginning of a long one.
func Fit(note string) string {
	if len(note) <= MaxBytes {
		return note
	}
	return strings.ToValidUTF8(note[:MaxBytes-len(ellipsis)], "") + ellipsis
}

// Middle returns a name or a URI in at most n bytes: of a long one its beginning and its end, which tell it from others.
func Middle(s string, n int) string {
	if len(s) <= n {
		return s
	}
	half := (n - len(ellipsis)) / 2
	return strings.ToValidUTF8(s[:half], "") + ellipsis + strings.ToValidUTF8(s[len(s)-half:], "")
}
