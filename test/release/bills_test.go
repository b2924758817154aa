// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestBillsOfAnotherArchitecture: what lists the modules of a binary runs on this machine, whichever the binary is for.
func TestBillsOfAnotherArchitecture(t *testing.T) {
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	if other == "" {
		t.Skip("releases are for amd64 and arm64")
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	m, dir := &made{repository: repository}, t.TempDir()
	program := filepath.Join(m.tools(t, "release"), "release") // whatever it is built for
	if err := os.Mkdir(filepath.Join(dir, "linux-"+other), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(dir, "linux-"+other, "agent")); err != nil {
		t.Fatal(err)
	}
	m.run(t, []string{"GOARCH=" + other, "VERSION=v0.0.1"}, filepath.Join(repository, "build", "sbom.sh"), dir, "agent")
	text, err := os.ReadFile(filepath.Join(dir, "linux-"+other, "agent.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "pkg:golang/github.com/google/go-containerregistry@") {
		t.Errorf("the bill lacks a module of the binary:\n%.2000s", text)
	}
}

// TestWhatThePageHasOfOthersIsTold: with each archive come its licences, and bills of what has kubectl-berth in it list it.
func TestWhatThePageHasOfOthersIsTold(t *testing.T) {
	m := madeRelease(t)
	platform := "linux-" + runtime.GOARCH
	for _, name := range []string{"kubectl-berth-" + m.version + "-" + platform, "berth-lab-" + m.version + "-" + platform} {
		files := m.run(t, nil, "tar", "-tzf", m.file(name+".tar.gz"))
		for _, want := range []string{"LICENSE\n", "LICENSE-preact\n", "LICENSE-htm\n"} {
			if !strings.Contains(files, want) {
				t.Errorf("%s lacks %q:\n%s", name, want, files)
			}
		}
	}
	for _, name := range []string{"kubectl-berth-" + platform, "berth-lab-" + platform} {
		text, err := os.ReadFile(m.file(name + ".cdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"pkg:npm/preact@", "pkg:npm/htm@", "pkg:golang/github.com/spf13/cobra@"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the bill of %s does not list %s", name, want)
			}
		}
	}
}
