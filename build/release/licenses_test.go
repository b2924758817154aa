// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLicensesOfAProgram are those of each module that it was linked of, here of the test itself.
func TestLicensesOfAProgram(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) < 5 {
		t.Fatalf("the test is linked of %d modules", len(info.Deps))
	}
	var out bytes.Buffer
	if err := run([]string{"licenses", program}, &out); err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if name := m.Path + " " + m.Version; !strings.Contains(out.String(), "\n"+name+"\n") {
			t.Errorf("the license of %s is missing", name)
		}
	}
	if n := strings.Count(out.String(), "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"); n == 0 || n == len(info.Deps) {
		t.Errorf("the Apache license is there %d times, for %d modules", n, len(info.Deps))
	}
}

// texts makes a folder with files.
func texts(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWhichFilesAreLicenses(t *testing.T) {
	var out bytes.Buffer
	if err := writeLicenses(&out, map[string]string{
		standardLibrary: texts(t, map[string]string{"LICENSE": "go", "PATENTS": "granted", "src/vendor/LICENSE": "no", "src/LICENSE": "no"}),
		"b v1": texts(t, map[string]string{
			"LICENSE.md": "same\r\n", "fork/COPYING": "theirs", "license.go": "no", "testdata/LICENSE": "no", "vendor/x/LICENSE": "no", "licensed": "no",
		}),
		"a v2": texts(t, map[string]string{"Licence": "same", "NOTICE.txt": "say so"}),
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"What was linked into the programs beside Berth itself, and its licenses.\n",
		standardLibrary + "\n\ngo\n", standardLibrary + "\n\ngranted\n", "a v2\n\nsay so\n", "a v2\nb v1\n\nsame\n", "b v1\n\ntheirs\n",
	}
	if diff := cmp.Diff(want, strings.Split(out.String(), parting)); diff != "" {
		t.Errorf("licenses (-want +got):\n%s", diff)
	}
	err := writeLicenses(&out, map[string]string{"a v2": texts(t, map[string]string{"README": "x"})})
	if err == nil || !strings.Contains(err.Error(), "a v2: no license") {
		t.Errorf("a module without a license: %v", err)
	}
}
