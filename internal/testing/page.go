// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package testing

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// fileOfPage is a file that a page of the documentation shows, behind a line with its name.
var fileOfPage = regexp.MustCompile("(?m)^`([^`\n]+)`:\n\n```[a-z]+\n((?:[^`][^\n]*\n|\n)*)```")

// WriteFilesOf writes the files that a page shows below a folder, and returns their names.
func WriteFilesOf(t testing.TB, page []byte, folder string) (names []string) {
	t.Helper()
	for _, match := range fileOfPage.FindAllSubmatch(page, -1) {
		file := filepath.Join(folder, string(match[1]))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, match[2], 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, string(match[1]))
	}
	return names
}
