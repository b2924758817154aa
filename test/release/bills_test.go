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
