// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"sigs.k8s.io/yaml"
)

// What of krew's manifest is used (https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/).
type (
	krewManifest struct {
		APIVersion string       `json:"apiVersion"`
		Kind       string       `json:"kind"`
		Metadata   krewMetadata `json:"metadata"`
		Spec       krewSpec     `json:"spec"`
	}
	krewMetadata struct {
		Name string `json:"name"`
	}
	krewSpec struct {
		Version          string         `json:"version"`
		Homepage         string         `json:"homepage"`
		ShortDescription string         `json:"shortDescription"`
		Description      string         `json:"description"`
		Platforms        []krewPlatform `json:"platforms"`
	}
	krewPlatform struct {
		Selector krewSelector `json:"selector"`
		URI      string       `json:"uri"`
		SHA256   string       `json:"sha256"`
		Bin      string       `json:"bin"`
	}
	krewSelector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	}
)

const (
	homepage        = "https://github.com/berth-dev/berth"
	krewDescription = `Shows what each GPU of a cluster with the Berth scheduler holds, why a pod
waits for GPU memory, where pods would go if something were different, and
how much memory a model needs.
`
)

// archiveName are the names of the plugin's archives: kubectl-berth-VERSION-OS-ARCH.tar.gz, or .zip.
var archiveName = regexp.MustCompile(`^kubectl-berth-v.+-([a-z]+)-([a-z0-9]+)\.(?:tar\.gz|zip)$`)

func krewCommand(args []string, out io.Writer) error {
	f := flags("krew")
	dir := f.String("dir", "", "folder of the plugin's archives")
	downloads := f.String("downloads", "", "where the archives can be downloaded from")
	if err := f.parse(args, "version", "dir", "downloads"); err != nil {
		return err
	}
	manifest, err := newKrewManifest(f.version, *dir, *downloads)
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(manifest)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

func newKrewManifest(version, dir, downloads string) (*krewManifest, error) {
	manifest := &krewManifest{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin", Metadata: krewMetadata{Name: "berth"},
		Spec: krewSpec{
			Version: version, Homepage: homepage, Description: krewDescription,
			ShortDescription: "Show what GPUs hold, and why pods wait for them",
		},
	}
	files, err := filepath.Glob(filepath.Join(dir, "kubectl-berth-"+version+"-*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		parts := archiveName.FindStringSubmatch(filepath.Base(file))
		if parts == nil {
			return nil, fmt.Errorf("%s: no archive of a platform", file)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		bin := "kubectl-berth"
		if parts[1] == "windows" {
			bin += ".exe"
		}
		manifest.Spec.Platforms = append(manifest.Spec.Platforms, krewPlatform{
			Selector: krewSelector{MatchLabels: map[string]string{"os": parts[1], "arch": parts[2]}},
			URI:      downloads + "/" + filepath.Base(file), SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Bin: bin,
		})
	}
	if len(manifest.Spec.Platforms) == 0 {
		return nil, fmt.Errorf("%s: no archives of kubectl-berth %s", dir, version)
	}
	return manifest, nil
}
