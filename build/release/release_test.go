// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const epoch = "1763900000" // 2025-11-23

// write makes a file with a time and a mode of its own.
func write(t *testing.T, mode fs.FileMode, parts ...string) string {
	t.Helper()
	file := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("what "+filepath.Base(file)+" does"), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSameInputSameBytes packs the same files from another folder, at another time, under another umask.
func TestSameInputSameBytes(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	pack := func(program, text fs.FileMode, age time.Duration) map[string]string {
		dir, out := t.TempDir(), t.TempDir()
		t.Chdir(out)
		files := []string{write(t, program, dir, "linux-amd64", "agent"), write(t, text, dir, "LICENSE")}
		layer := write(t, text, dir, "base", "amd64", "libc6_2.36-9_amd64.tar")
		if err := os.WriteFile(layer, make([]byte, 1024), text); err != nil { // an empty archive
			t.Fatal(err)
		}
		for _, file := range append(files, layer) {
			if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
		got := map[string]string{}
		for _, archive := range []string{"a.tar.gz", "a.zip"} {
			if err := run(append([]string{"archive", "--out", archive, "--prefix", "p"}, files...), nil); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			got[archive] = string(data)
		}
		var digest bytes.Buffer
		if err := run([]string{"image", "--name", "berth-agent", "--version", "v0.1.0", "--revision", "abc", "--arch", "amd64",
			"--binaries", dir, "--base", filepath.Join(dir, "base"), "--doc", filepath.Join(dir, "LICENSE"), "--layout", "images", "agent"}, &digest); err != nil {
			t.Fatal(err)
		}
		got["image"] = digest.String()
		return got
	}
	first, second := pack(0o755, 0o644, 0), pack(0o700, 0o600, time.Hour)
	for name := range first {
		if first[name] != second[name] {
			t.Errorf("%s differs between two builds", name)
		}
	}
}

func TestChangesAreReadFromTheChangelog(t *testing.T) {
	const text = `# Changelog

## [Unreleased]
### Security
- Mended.

## [0.2.0] - 2026-12-01
Words that are no change.

### Added
- One thing, over
  two lines.
### Fixed
- Another.

## [0.1.0] - 2026-11-30
### Added
- All.
`
	tests := []struct {
		name, version string
		want          []change
	}{
		{"a version that has a heading", "v0.2.0", []change{{"added", "One thing, over two lines."}, {"fixed", "Another."}}},
		{"the last version of the file", "v0.1.0", []change{{"added", "All."}}},
		{"a version that has none yet", "v0.3.0-rc.1", []change{{"security", "Mended."}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := changes(text, tt.version)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
	for name, wrong := range map[string]string{
		"nothing at all":         "# Changelog\n",
		"a kind that is none":    "\n## [Unreleased]\n### Improved\n- x\n",
		"an empty list of kinds": "\n## [Unreleased]\n### Added\n",
	} {
		if got, err := changes(wrong, "v0.1.0"); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
	}
}

// TestChartOfTheRepository packs the chart and the changelog as they are.
func TestChartOfTheRepository(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := changes(string(text), "v9.9.9-rc.1")
	if err != nil {
		t.Fatal(err)
	}
	chart, err := os.ReadFile("../../charts/berth/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	packed, err := chartMetadata(chart, "v9.9.9-rc.1", "registry.example.com/berth", changed)
	if err != nil {
		t.Fatal(err)
	}
	var metadata struct {
		Version, AppVersion string
		Annotations         map[string]string
	}
	if err := yaml.Unmarshal(packed, &metadata); err != nil {
		t.Fatal(err)
	}
	if metadata.Version != "9.9.9-rc.1" || metadata.AppVersion != "v9.9.9-rc.1" || metadata.Annotations["artifacthub.io/prerelease"] != "true" {
		t.Errorf("the chart is of %s, of Berth %s, a pre-release: %s",
			metadata.Version, metadata.AppVersion, metadata.Annotations["artifacthub.io/prerelease"])
	}
	// Each annotation that holds a list is one, of objects with the fields that Artifact Hub asks for.
	for annotation, fields := range map[string][]string{
		"changes": {"kind", "description"}, "images": {"name", "image"}, "links": {"name", "url"},
		"crds": {"kind", "version", "name", "displayName", "description"},
	} {
		var list []map[string]string
		if err := yaml.UnmarshalStrict([]byte(metadata.Annotations["artifacthub.io/"+annotation]), &list); err != nil || len(list) == 0 {
			t.Errorf("%s: %d entries, %v", annotation, len(list), err)
		}
		for _, object := range list {
			for _, field := range fields {
				if object[field] == "" {
					t.Errorf("%s: an entry without %s: %v", annotation, field, object)
				}
			}
		}
	}
	crds, err := filepath.Glob("../../charts/berth/crds/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if listed := strings.Count(metadata.Annotations["artifacthub.io/crds"], "- kind: "); listed != len(crds) {
		t.Errorf("%d CustomResourceDefinitions are listed, the chart has %d", listed, len(crds))
	}
}

// TestReadmeOfTheChart: whoever reads it in a registry is told the chart that lies there.
func TestReadmeOfTheChart(t *testing.T) {
	text, err := os.ReadFile("../../charts/berth/README.md")
	if err != nil {
		t.Fatal(err)
	}
	got, err := replaced(entry{name: "README.md", data: text}, exampleChart, "oci://registry.test/b/charts/berth --version 9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(got), "oci://registry.test/b/charts/berth --version 9.9.9"); n != 3 || strings.Contains(string(got), "registry.example.com") {
		t.Errorf("%d lines name the chart of the release, want 3 and none of another:\n%s", n, got)
	}
	if _, err := replaced(entry{name: "README.md"}, exampleChart, ""); err == nil {
		t.Error("a README without the chart is taken")
	}
}

func TestWhatIsNoReleaseIsRefused(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"a version without a v":         {"krew", "--version", "0.1.0", "--dir", dir, "--downloads", "https://x"},
		"a commit as a version":         {"krew", "--version", "3ae7a00", "--dir", dir, "--downloads", "https://x"},
		"a folder without archives":     {"krew", "--version", "v0.1.0", "--dir", dir, "--downloads", "https://x"},
		"a flag that is missing":        {"krew", "--version", "v0.1.0", "--dir", dir},
		"an image without its programs": {"image", "--name", "x", "--version", "v0.1.0", "--revision", "r", "--binaries", dir, "--layout", dir, "--arch", "amd64"},
		"a command that is none":        {"krow"},
		"nothing":                       nil,
	} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if err := run([]string{"archive", "--out", filepath.Join(dir, "a.zip")}, nil); err == nil {
		t.Error("an archive without a date is made")
	}
}
