// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flagsdoc holds the pages of docs/reference that list the flags of programs to the programs, for their tests:
// hack/reference does not have these programs in it, some of which take minutes to link.
package flagsdoc

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Update is the environment variable that has the pages written instead of compared: hack/update-codegen.sh sets it.
const Update = "BERTH_UPDATE_REFERENCE"

// generated is the first line of each page.
const generated = "<!-- Made by hack/update-codegen.sh from the code: change it there. -->\n"

// Check compares a page with what a program's commands say, each with its own help and flags.
func Check(t testing.TB, page, title, intro string, commands ...*cobra.Command) {
	t.Helper()
	want, err := render(title, intro, commands)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv(Update) != "" {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the program says, run hack/update-codegen.sh (-program +page):\n%s", filepath.Base(page), diff)
	}
}

func render(title, intro string, commands []*cobra.Command) (string, error) {
	var out bytes.Buffer
	out.WriteString(generated + "# " + title + "\n\n" + intro + "\n")
	for _, command := range commands {
		command.DisableAutoGenTag = true
		var text bytes.Buffer
		if err := doc.GenMarkdown(command, &text); err != nil {
			return "", err
		}
		page, _, _ := strings.Cut(text.String(), "### SEE ALSO")
		out.WriteString("\n" + strings.TrimSpace(page) + "\n")
	}
	return out.String(), nil
}
