// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSentence(t *testing.T) {
	tests := map[string]struct{ comment, name, want string }{
		"a verb that the table says by itself is left out": {"Headroom is kept free.\n", "Headroom", "Kept free."},
		"other verbs stay":                  {"MaxMinRuntime caps\nit.", "MaxMinRuntime", "Caps it."},
		"a field of a schema is lower":      {"UUID is the identity.", "uuid", "The identity."},
		"a comment that begins otherwise":   {"Fractions of what is free.", "AnnotationX", "Fractions of what is free."},
		"a comment of nothing but its name": {"Free", "Free", "Free"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sentence(tt.comment, tt.name); got != tt.want {
				t.Errorf("sentence = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConstantsHaveTheirValuesAndComments(t *testing.T) {
	code, err := parse("testdata")
	if err != nil {
		t.Fatal(err)
	}
	want := []named{
		{"AnnotationA", "example.test/a", "AnnotationA is above.\n"},
		{"AnnotationB", "example.test/b", "AnnotationB is behind.\n"},
		{"LabelAlone", "example.test/alone", "LabelAlone stands\nalone.\n"},
	}
	if diff := cmp.Diff(want, code.constants(), cmp.AllowUnexported(named{})); diff != "" {
		t.Errorf("constants (-want +got):\n%s", diff)
	}
}
