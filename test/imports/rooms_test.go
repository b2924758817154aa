// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package imports

import (
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plugin are the rooms of pkg/plugin, each with those that it uses. The package itself is on top and uses them all; that no
// room uses it, and none another in a circle, is the compiler's.
var plugin = map[string][]string{
	"claims":         nil,
	"history":        nil,
	"needs":          nil,
	"parked":         nil,
	"policies":       nil,
	"requests":       nil,
	"resourceclaims": nil,
	"timers":         nil,
	"warm":           nil,
	"words":          nil,
	"config":         {"policies"},
	"cycle":          {"claims", "warm"},
	"shared":         {"config", "history", "timers"},
	"mix":            {"cycle", "requests", "shared"},
	"preempt":        {"claims", "cycle", "history"},
	"wake":           {"claims", "config", "needs", "parked", "requests", "shared"},
	"verdicts":       {"claims", "cycle", "shared", "words"},
	"follow":         {"claims", "config", "cycle", "parked", "preempt", "shared", "wake", "words"},
	"faults":         {"config", "history", "policies", "shared", "wake", "words"},
	"recovery":       {"config", "shared", "wake"},
	"feed":           {"faults", "follow", "mix", "parked", "requests", "shared", "wake", "warm"},
}

// TestRoomsOfThePlugin draws the rooms from their imports. An arrow more is to be wanted, not to happen.
func TestRoomsOfThePlugin(t *testing.T) {
	root := filepath.Join("..", "..", "pkg", "plugin")
	folders, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, d := range folders {
		if !d.IsDir() || d.Name() == "testdata" {
			continue
		}
		files, err := filepath.Glob(filepath.Join(root, d.Name(), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		uses := map[string]bool{}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if room, ok := strings.CutPrefix(imported, module+"pkg/plugin/"); ok {
					uses[room] = true
				}
			}
		}
		found[d.Name()] = slices.Sorted(maps.Keys(uses))
	}
	if diff := cmp.Diff(plugin, found); diff != "" {
		t.Errorf("rooms and what they use (-want +got):\n%s", diff)
	}
}
