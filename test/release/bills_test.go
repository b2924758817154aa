// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"os"
	"path/filepath"
	"regexp"
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

// licensed holds a file of licenses to a bill of materials: it has those of each Go module of the bill.
func licensed(t *testing.T, licenses string, bill []byte) {
	t.Helper()
	modules := regexp.MustCompile(`"purl": "pkg:golang/([^@"]+)@([^?"]+)`).FindAllStringSubmatch(string(bill), -1)
	if len(modules) < 20 {
		t.Fatalf("the bill has only %d modules", len(modules))
	}
	for _, m := range modules {
		if m[1] == "github.com/berth-dev/berth" || m[1] == "std" {
			continue // its license is the file LICENSE; or the next line
		}
		if line := m[1] + " " + strings.ReplaceAll(m[2], "%2B", "+"); !strings.Contains(licenses, "\n"+line+"\n") {
			t.Errorf("the license of %s is missing", line)
		}
	}
	if !strings.Contains(licenses, "\nGo's standard library\n") {
		t.Error("the license of Go's standard library is missing")
	}
}

// TestLicensesGoWithArchives are those of all that is linked into the programs.
func TestLicensesGoWithArchives(t *testing.T) {
	m := madeRelease(t)
	platform := "linux-" + runtime.GOARCH
	for name, file := range map[string]string{
		"kubectl-berth": "LICENSES.txt", "berth-lab": "berth-lab-" + m.version + "/LICENSES.txt",
	} {
		bill, err := os.ReadFile(m.file(name + "-" + platform + ".cdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			licensed(t, m.run(t, nil, "tar", "-xzOf", m.file(name+"-"+m.version+"-"+platform+".tar.gz"), file), bill)
		})
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
