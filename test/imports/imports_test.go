// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package imports holds the tree to its layers: who may import what, of the repository and of others.
package imports

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/berth-dev/berth/"

// rule says that packages may import what begins with prefix only below some folders, or never below others.
type rule struct {
	name string
	// prefixes are of import paths.
	prefixes []string
	// except are those of them that everybody may import.
	except []string
	// only are the folders that may import them; nil for all but those of never.
	only []string
	// never are the folders that may not.
	never []string
	// tests says that the rule holds for tests too.
	tests bool
}

var rules = []rule{
	{
		name:     "the planner needs nothing but the standard library",
		prefixes: []string{"k8s.io/", "sigs.k8s.io/", "github.com/", "golang.org/", "google.golang.org/", "gopkg.in/"},
		never:    []string{"pkg/alloc"},
	},
	{
		name:     "who has to go is found with nothing but the planner and the standard library",
		prefixes: []string{"k8s.io/", "sigs.k8s.io/", "github.com/", "golang.org/", "google.golang.org/", "gopkg.in/"},
		except:   []string{module + "pkg/alloc"},
		never:    []string{"pkg/evict"},
	},
	{
		name:     "traces are replayed with nothing but the planner's limits and the standard library: who places pods is handed in",
		prefixes: []string{"k8s.io/", "sigs.k8s.io/", "github.com/", "golang.org/", "google.golang.org/", "gopkg.in/"},
		except:   []string{module + "pkg/alloc"},
		never:    []string{"pkg/replay"},
	},
	{
		name:     "only tests use what is made for tests",
		prefixes: []string{module + "internal/alloctest", module + "internal/metricsdoc"},
		only:     []string{},
	},
	{
		name:     "the types that are shared with the API objects need nothing",
		prefixes: []string{"k8s.io/", "sigs.k8s.io/", "github.com/"},
		never:    []string{"pkg/model"},
	},
	{
		name:     "API objects do not depend on how memory is estimated",
		prefixes: []string{module + "pkg/"},
		except:   []string{module + "pkg/model"},
		never:    []string{"api"},
	},
	{
		name:     "the estimator knows nothing of Kubernetes",
		prefixes: []string{"k8s.io/", "sigs.k8s.io/", module + "api/", module + "pkg/gpustate", module + "pkg/plugin"},
		never:    []string{"pkg/estimator"},
		tests:    true,
	},
	{
		name:     "cgo ends at the NVML reader",
		prefixes: []string{"github.com/NVIDIA/go-nvml/"},
		only:     []string{"pkg/agent/nvml"},
		tests:    true,
	},
	{
		name:     "the numbers of a fleet are made of the books, whoever schedules",
		prefixes: []string{"k8s.io/kubernetes/", "k8s.io/kube-scheduler/", "k8s.io/client-go/", module + "pkg/plugin"},
		never:    []string{"pkg/fleet"},
		tests:    true,
	},
	{
		name:     "only the agent reads NVML",
		prefixes: []string{module + "pkg/agent/nvml"},
		only:     []string{"pkg/agent/nvml", "cmd/agent", "test"},
		tests:    true,
	},
	{
		name:     "k8s.io/kubernetes changes with every minor version, so few may touch it",
		prefixes: []string{"k8s.io/kubernetes/"},
		only:     []string{"pkg/plugin", "pkg/simulator", "internal/program/scheduler", "pkg/lab", "cmd/berth-lab", "test"},
	},
	{
		name:     "the bridge knows nothing of the scheduler framework",
		prefixes: []string{"k8s.io/kube-scheduler/", module + "pkg/plugin"},
		never:    []string{"pkg/gpustate", "api"},
		tests:    true,
	},
	{
		name:     "what runs in a cluster does not depend on the lab",
		prefixes: []string{module + "pkg/lab"},
		only:     []string{"pkg/lab", "cmd/berth-lab", "test"},
	},
	{
		name:     "programs depend on packages, never the other way round",
		prefixes: []string{module + "cmd/"},
		only:     []string{},
	},
}

// allows says whether a file of a folder may import a path.
func (r *rule) allows(folder, imported string, isTest bool) bool {
	if isTest && !r.tests || !slices.ContainsFunc(r.prefixes, func(p string) bool { return below(imported, p) }) {
		return true
	}
	if slices.ContainsFunc(r.except, func(p string) bool { return below(imported, p) }) {
		return true
	}
	under := func(f string) bool { return below(folder, f) }
	if r.only != nil {
		return slices.ContainsFunc(r.only, under)
	}
	if strings.HasPrefix(imported, module) && slices.ContainsFunc(r.never, func(f string) bool { return below(imported, module+f) }) {
		return true // its own packages
	}
	return !slices.ContainsFunc(r.never, under)
}

// below says whether a path is in, or below, a folder; a folder may be given with a slash at its end.
func below(p, folder string) bool {
	folder = strings.TrimSuffix(folder, "/")
	return p == folder || strings.HasPrefix(p, folder+"/")
}

func TestImports(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// Folders of tools and of other modules.
			if name := d.Name(); name != ".." && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata" || name == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(file) != ".go" {
			return nil
		}
		files++
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			for i := range rules {
				if !rules[i].allows(filepath.ToSlash(folder), imported, strings.HasSuffix(file, "_test.go")) {
					t.Errorf("%s imports %s: %s", file, imported, rules[i].name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}

func TestRules(t *testing.T) {
	tests := []struct {
		folder, imported string
		test, want       bool
	}{
		{"pkg/alloc", "slices", false, true},
		{"pkg/alloc", "k8s.io/api/core/v1", false, false},
		{"pkg/alloc", "pgregory.net/rapid", true, true},
		{"pkg/alloc", module + "pkg/gpustate", false, false},
		{"pkg/evict", module + "pkg/alloc", false, true},
		{"pkg/evict", module + "pkg/gpustate", false, false},
		{"pkg/replay", module + "pkg/replay/fgd", false, true},
		{"pkg/replay/fgd", module + "pkg/simulator", false, false},
		{"pkg/evict", module + "internal/alloctest", true, true},
		{"pkg/evict", module + "internal/alloctest", false, false},
		{"pkg/estimator/hfconfig", module + "pkg/estimator", false, true},
		{"pkg/estimator/hfconfig", module + "api/v1alpha1", true, false},
		{"api/v1alpha1", module + "pkg/model", false, true},
		{"api/v1alpha1", module + "pkg/estimator", false, false},
		{"pkg/model", module + "pkg/estimator", false, false},
		{"pkg/agent", "github.com/NVIDIA/go-nvml/pkg/nvml", false, false},
		{"pkg/agent/nvml", "github.com/NVIDIA/go-nvml/pkg/nvml", true, true},
		{"pkg/cli", "k8s.io/kubernetes/pkg/scheduler", false, false},
		{"pkg/pluginx", "k8s.io/kubernetes/pkg/scheduler", false, false},
		{"pkg/lab/demo", "k8s.io/kubernetes/cmd/kube-apiserver/app", false, true},
		{"pkg/cli", module + "pkg/lab/demo", false, false},
		{"pkg/fleet/export", module + "pkg/plugin", false, false},
		{"pkg/fleet/export", module + "pkg/fleet", false, true},
	}
	for _, tt := range tests {
		got := true
		for i := range rules {
			got = got && rules[i].allows(tt.folder, tt.imported, tt.test)
		}
		if got != tt.want {
			t.Errorf("%s (test: %v) importing %s: allowed %v, want %v", tt.folder, tt.test, tt.imported, got, tt.want)
		}
	}
}
