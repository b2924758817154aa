// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := write("token", "hf_first\n")
	credentials, err := FileCredentials([]TokenFile{
		{Host: "HuggingFace.co", Path: token},
		{Host: "registry.example:5000", Path: write("login", "me:secret"), Scheme: "Basic"},
		{Host: "empty.example", Path: write("empty", " \n")},
		{Host: "odd.example", Path: write("odd", "two\r\nlines")},
		{Host: "gone.example", Path: filepath.Join(dir, "gone")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, host, want string
		fails            bool
	}{
		{"a token", "huggingface.co", "Bearer hf_first", false},
		{"a name and password", "registry.example:5000", "Basic bWU6c2VjcmV0", false}, // base64 of me:secret
		{"another port of a host", "registry.example", "", false},
		{"a subdomain of a host", "cdn.huggingface.co", "", false},
		{"an empty file", "empty.example", "", true},
		{"a file of two lines, which would be another header", "odd.example", "", true},
		{"a file that is gone", "gone.example", "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := credentials(t.Context(), tc.host)
			if got != tc.want || (err != nil) != tc.fails {
				t.Errorf("got %q, %v, want %q, an error: %v", got, err, tc.want, tc.fails)
			}
			if err != nil && strings.Contains(err.Error(), "lines") {
				t.Errorf("the message %q shows the token", err)
			}
		})
	}
	write("token", "hf_second")
	if got, err := credentials(t.Context(), "huggingface.co"); err != nil || got != "Bearer hf_second" {
		t.Errorf("after the token was rotated: %q, %v", got, err)
	}
}
