// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package eventnote

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNotesAreShortAndWhole(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("x", 1024), strings.Repeat("x", 1025), strings.Repeat("é", 1000), strings.Repeat("モ", 1000), "x" + strings.Repeat("モ", 1000)} {
		for name, got := range map[string]string{"Fit": Fit(s), "Middle": Middle(s, 1024)} {
			if len(got) > MaxBytes || !utf8.ValidString(got) {
				t.Errorf("%s of %d bytes: %d bytes, valid %v", name, len(s), len(got), utf8.ValidString(got))
			}
			if len(s) <= MaxBytes && got != s {
				t.Errorf("%s changed a short note to %q", name, got)
			}
			if len(s) > MaxBytes && (len(got) < MaxBytes-8 || !strings.Contains(got, ellipsis)) {
				t.Errorf("%s of %d bytes kept %d bytes", name, len(s), len(got))
			}
		}
	}
	if got := Middle("hf://org/"+strings.Repeat("x", 100)+"/model.gguf", 40); !strings.HasPrefix(got, "hf://org/") || !strings.HasSuffix(got, "/model.gguf") {
		t.Errorf("got %q, want its beginning and its end", got)
	}
}

// FuzzFit: notes stay within what the API server takes, and are valid UTF-8 if what they are made of is.
func FuzzFit(f *testing.F) {
	f.Add(strings.Repeat("GPU-ä", 300))
	f.Fuzz(func(t *testing.T, s string) {
		if got := Fit(s); len(got) > MaxBytes || len(s) <= MaxBytes && got != s || utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Fatalf("%d bytes became %d: %q", len(s), len(got), got)
		}
	})
}
