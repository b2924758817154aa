// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestURIsAreShownWithoutWhatMayBeSecret(t *testing.T) {
	for _, tc := range []struct{ uri, want string }{
		{"https://host/x.gguf", "https://host/x.gguf"},
		{"https://host:8080/x.gguf", "https://host:8080/x.gguf"},
		{"hf://org/repo@main/sub/x.gguf", "hf://org/repo@main/sub/x.gguf"},
		{"hf://org/repo/a@b.gguf", "hf://org/repo/a@b.gguf"},
		{"ollama://llama3.1:70b", "ollama://llama3.1:70b"},
		{"file:///models/x.gguf", "file:///models/x.gguf"},
		{"https://host/x.gguf?sig=secret", "https://host/x.gguf?…"},
		{"https://host/x.gguf?secret#secret", "https://host/x.gguf?…"},
		{"https://host/x.gguf#secret", "https://host/x.gguf#…"},
		{`https://host/x.gguf?a="secret`, "https://host/x.gguf?…"},
		{"hf://org/repo/x.gguf?secret", "hf://org/repo/x.gguf?…"},
		{"https://secret@host/x.gguf", "https://…@host/x.gguf"},
		{"https://user:secret@host/x.gguf", "https://…@host/x.gguf"},
		{"https://user:sec@ret@host/x.gguf", "https://…@host/x.gguf"},
		{"https://user:se/cret@host/x.gguf", "https://…@host/x.gguf"},
		{"user:secret@host/x.gguf", "…@host/x.gguf"},
		{"ollama://user:secret@host/a/b", "ollama://…@host/a/b"},
	} {
		got := URI(tc.uri)
		if got != tc.want {
			t.Errorf("URI(%s) = %s, want %s", tc.uri, got, tc.want)
		}
		if again := URI(got); again != got {
			t.Errorf("URI(%s) = %s, want no change", got, again)
		}
		if strings.Contains(tc.uri, "se") && !strings.Contains(tc.uri, "se/cret") && !HasSecret(tc.uri) {
			t.Errorf("HasSecret(%s) = false", tc.uri)
		}
		if tc.uri == tc.want && HasSecret(tc.uri) {
			t.Errorf("HasSecret(%s) = true", tc.uri)
		}
	}
}

func TestTextsOfOthersAreShownWithoutWhatMayBeSecret(t *testing.T) {
	for _, s := range []string{
		`Get "https://host/x?sig=MARKER&b=c": EOF`,
		`failed to parse Location header "/x?sig=MARKER%zz": parse "/x?sig=MARKER%zz": invalid URL escape "%zz"`,
		`invalid proxy address "user:MARKER@proxy:port": parse`,
		`invalid proxy address "http://user:MARKER@proxy:port": parse`,
		`http://MARKER@host refused`,
		`https://user:pass/MARKER@host refused`,
		fmt.Sprintf("%q is not a URL", `https://host/x?"MARKER`),
		(&url.Error{Op: "Get", URL: "https://host/x?MARKER", Err: fmt.Errorf("EOF")}).Error(),
	} {
		if got := Text(s); strings.Contains(got, "MARKER") {
			t.Errorf("Text(%s) = %s", s, got)
		}
	}
	for _, s := range []string{
		"hf://org/repo@main/x.gguf: no such model, revision or file (404)",
		"lookup host on 10.0.0.1:53: no such host",
		"not an amount, did you mean 30Gi?",
	} {
		if got := Text(s); got != s {
			t.Errorf("Text(%s) = %s, want no change", s, got)
		}
	}
}
