// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package flagsdoc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// recorder keeps what a test says of itself.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestAPageIsWhatTheProgramSays(t *testing.T) {
	command := func(usage string) *cobra.Command {
		c := &cobra.Command{Use: "program", Short: "Do it", Run: func(*cobra.Command, []string) {}}
		c.Flags().String("name", "it", usage)
		c.Flags().String("old", "", "")
		_ = c.Flags().MarkDeprecated("old", "it has no effect")
		return c
	}
	page := filepath.Join(t.TempDir(), "program.md")
	t.Setenv(Update, "1")
	Check(t, page, "program", "What it is for.", command("Whose it is"))
	t.Setenv(Update, "")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"# program\n\nWhat it is for.\n", "--name string", `Whose it is (default "it")`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("the page lacks %q:\n%s", part, text)
		}
	}
	if strings.Contains(string(text), "--old") {
		t.Errorf("the page has a flag that has no effect:\n%s", text)
	}
	Check(t, page, "program", "What it is for.", command("Whose it is"))
	r := &recorder{TB: t}
	if Check(r, page, "program", "What it is for.", command("Another meaning")); len(r.errors) != 1 {
		t.Errorf("a page that says something else: %q", r.errors)
	}
}
