// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// named is a test that a page names as proof, with one of its subtests or without: `TestX`, `TestX/what it is about`.
var named = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9_]*)(?:/([^`]+))?`")

// texts are the string literals of a package.
type texts map[string]bool

// allTests returns the names of all tests of the repository, each with the texts of the packages that have one of that name.
func allTests(t *testing.T) map[string][]texts {
	t.Helper()
	all, packages := map[string][]texts{}, map[string]texts{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "bin" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		folder := filepath.Dir(file)
		if packages[folder] == nil {
			packages[folder] = texts{}
		}
		f := parse(t, file)
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				all[fn.Name.Name] = append(all[fn.Name.Name], packages[folder])
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					packages[folder][s] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEachTestThatIsNamedExists: what a page says is shown by a test is shown by one.
func TestEachTestThatIsNamedExists(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, names := allTests(t), 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			names++
			in := tests[match[1]]
			if len(in) == 0 {
				t.Errorf("%s names the test %s, which is not there", filepath.Base(page), match[1])
			} else if match[2] != "" && !slices.ContainsFunc(in, func(texts texts) bool { return texts[match[2]] }) {
				t.Errorf("%s names %q of %s, which is not there", filepath.Base(page), match[2], match[1])
			}
		}
	}
	if names < 50 {
		t.Errorf("only %d names were found", names)
	}
}

// TestEachRowOfTheAttacksNamesItsTests: an attack that nothing shows the end of is a limit, and said to be one.
func TestEachRowOfTheAttacksNamesItsTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "attacks.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) < 3 || !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.TrimSpace(cells[0]) == "" || strings.Contains(cells[0], "what is tried") {
			continue
		}
		rows++
		if last := cells[len(cells)-1]; !named.MatchString(last) && !strings.Contains(last, "](security.md#") {
			t.Errorf("the row %q has neither a test nor a limit", cells[0])
		}
	}
	if rows < 40 {
		t.Errorf("only %d rows were found", rows)
	}
}
