// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestPluginIsInstalledByKrew: from the manifest and the archive, as they are downloaded.
func TestPluginIsInstalledByKrew(t *testing.T) {
	m := madeRelease(t)
	tools := m.tools(t, "kubectl-krew")
	root := t.TempDir()
	env := []string{"KREW_ROOT=" + root, "PATH=" + strings.Join([]string{filepath.Join(root, "bin"), tools, m.bin}, ":")}
	archive := m.file("kubectl-berth-" + m.version + "-" + runtime.GOOS + "-" + runtime.GOARCH + ".tar.gz")

	m.run(t, env, "kubectl", "krew", "install", "--manifest="+m.file("berth.yaml"), "--archive="+archive)
	help := m.run(t, env, "kubectl", "berth", "--help")
	for _, want := range []string{"kubectl berth", "explain", "what-if", "top"} {
		if !strings.Contains(help, want) {
			t.Errorf("help does not have %q:\n%s", want, help)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "receipts", "berth.yaml")); err != nil {
		t.Errorf("krew has no receipt of what it installed: %v", err)
	}

	// Krew trusts nothing but the sum of the manifest.
	other := filepath.Join(t.TempDir(), filepath.Base(archive))
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(other, data, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := []string{"KREW_ROOT=" + t.TempDir(), env[1]}
	if out, _, err := m.try(t.Context(), fresh, "kubectl", "krew", "install", "--manifest="+m.file("berth.yaml"), "--archive="+other); err == nil {
		t.Errorf("an archive that was changed was installed:\n%s", out)
	}
}

// TestManifestIsWhatKrewsIndexTakes runs the check that krew's index runs. It downloads and installs the archives of all
// platforms, here from this machine.
func TestManifestIsWhatKrewsIndexTakes(t *testing.T) {
	m := madeRelease(t)
	tools := m.tools(t, "kubectl-krew", "validate-krew-manifest")
	downloads := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(m.dir, "release"))))
	defer downloads.Close()
	manifest := filepath.Join(t.TempDir(), "berth.yaml")
	text := m.run(t, nil, filepath.Join(tools, "release"), "krew", "--version", m.version, "--dir", filepath.Join(m.dir, "release"), "--downloads", downloads.URL)
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.run(t, []string{"PATH=" + tools + ":" + m.bin}, "validate-krew-manifest", "-manifest", manifest)
}
