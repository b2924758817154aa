// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs holds the documentation to the code.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..")

// constants returns the string constants of a file whose name has a prefix.
func constants(t *testing.T, file, prefix string) []string {
	t.Helper()
	var values []string
	ast.Inspect(parse(t, filepath.Join(root, file)), func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if strings.HasPrefix(name.Name, prefix) && i < len(spec.Values) {
				values = append(values, literal(t, spec.Values[i]))
			}
		}
		return true
	})
	if len(values) == 0 {
		t.Fatalf("%s has no constant %s…", file, prefix)
	}
	return values
}

// notes returns the reasons of the notes that a package makes.
func notes(t *testing.T, folder string) []string {
	t.Helper()
	var values []string
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		ast.Inspect(parse(t, file), func(n ast.Node) bool {
			made, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if name, ok := made.Type.(*ast.Ident); !ok || name.Name != "Note" {
				return true
			}
			for _, element := range made.Elts {
				field, ok := element.(*ast.KeyValueExpr)
				if !ok {
					t.Fatalf("%s: a Note without names of its fields", file)
				}
				if field.Key.(*ast.Ident).Name == "Reason" {
					values = append(values, literal(t, field.Value))
				}
			}
			return true
		})
	}
	if len(values) == 0 {
		t.Fatalf("%s makes no notes", folder)
	}
	return values
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		t.Fatalf("%T is no string literal", e)
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEachReasonIsDocumentedAndNoOther(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "reasons.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(
		constants(t, "pkg/gpustate/reasons.go", "Reason"),
		constants(t, "pkg/alloc/verdict.go", "Reason"),
		constants(t, "pkg/plugin/words/events.go", "Event"),
		notes(t, "pkg/gpustate"),
	)
	var documented []string
	for _, match := range regexp.MustCompile("(?m)^(?:### |\\| )`([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, match[1])
	}
	for _, reason := range want {
		if !slices.Contains(documented, reason) {
			t.Errorf("docs/reasons.md has no entry %q", reason)
		}
	}
	for _, reason := range documented {
		if !slices.Contains(want, reason) {
			t.Errorf("docs/reasons.md has an entry %q, which the code does not say", reason)
		}
	}
}

func TestEachEventAboutAReportIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "agent.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range constants(t, "pkg/controller/podcheck/podcheck.go", "Event") {
		if !strings.Contains(string(text), "\n| `"+reason+"` |") {
			t.Errorf("docs/agent.md has no entry %q", reason)
		}
	}
}

func TestEachReasonOfTheNodeConditionIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "reasons.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The condition `GPUUnhealthy` of a Node\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, reason := range constants(t, "pkg/controller/nodehealth/nodehealth.go", "Reason") {
		if !strings.Contains(section, reason) {
			t.Errorf("docs/reasons.md has nothing on %q of the condition", reason)
		}
	}
}

func TestEachCheckIsDocumentedAndNoOther(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "is-it-set-up-right.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[a-z-]+`(?:, `[a-z-]+`)*) \\| .*\\|$").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, strings.Split(strings.Trim(row[1], "`"), "`, `")...)
	}
	ids := constants(t, "pkg/cli/check/ids.go", "id")
	for _, id := range ids {
		if !slices.Contains(documented, id) {
			t.Errorf("docs/is-it-set-up-right.md has no entry %q", id)
		}
	}
	for _, id := range documented {
		if strings.Contains(id, "-") && !slices.Contains(ids, id) && !strings.HasPrefix(id, "-") {
			t.Errorf("docs/is-it-set-up-right.md has an entry %q, which the code does not say", id)
		}
	}
	for _, page := range constants(t, "pkg/cli/check/ids.go", "page") {
		file, anchor, _ := strings.Cut(page, "#")
		if !slices.Contains(anchors(t, file), "#"+anchor) {
			t.Errorf("kubectl berth check names the page %s, which is not there", page)
		}
	}
}

// link is a Markdown link to a file of the repository, or to a heading.
var link = regexp.MustCompile(`\]\(([^)\s:]*?)(#[^)\s]*)?\)`)

func TestLinksOfTheDocumentationLeadSomewhere(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/reference/*.md", "docs/runbooks/*.md"} {
		found, err := fs.Glob(os.DirFS(root), pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	links := 0
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			links++
			target := page
			if match[1] != "" {
				target = filepath.Join(filepath.Dir(page), match[1])
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", page, match[1])
				continue
			}
			if match[2] != "" && !slices.Contains(anchors(t, target), match[2]) {
				t.Errorf("%s links to %s, which has no heading %s", page, target, match[2])
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links were found", links)
	}
}

func TestTheIndexHasEveryPage(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root, "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := fs.Glob(os.DirFS(filepath.Join(root, "docs")), "*.md")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := fs.Glob(os.DirFS(filepath.Join(root, "docs")), "reference/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, reference...) {
		if page != "README.md" && !strings.Contains(string(index), "]("+page+")") {
			t.Errorf("docs/README.md does not list %s", page)
		}
	}
}

var (
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	// notInAnchor is what a heading loses when it becomes an anchor.
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the anchors of a page's headings.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, match := range heading.FindAllStringSubmatch(string(text), -1) {
		all = append(all, "#"+strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
	}
	return all
}
