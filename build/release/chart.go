// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// The chart as it lies in the repository has images of this repository, as make images names them.
const developers = "berth-dev"

// exampleChart is what the chart's README calls the chart of a release, which is in a registry.
const exampleChart = "oci://registry.example.com/berth/charts/berth --version 0.1.0"

// replaced returns a file with another text instead of one that it has to have.
func replaced(e entry, was, is string) ([]byte, error) {
	if !bytes.Contains(e.data, []byte(was)) {
		return nil, fmt.Errorf("%s: nowhere %q", e.name, was)
	}
	return bytes.ReplaceAll(e.data, []byte(was), []byte(is)), nil
}

func chartCommand(args []string, out io.Writer) error {
	f := flags("chart")
	source := f.String("package", "", "the chart as helm package has packed it")
	changelog := f.String("changelog", "", "file with what changed")
	images := f.String("images", "", "where the images of the release are, such as registry.example.com/berth")
	dir := f.String("out", "", "folder that the package is written to")
	if err := f.parse(args, "version", "package", "changelog", "images", "out"); err != nil {
		return err
	}
	text, err := os.ReadFile(*changelog)
	if err != nil {
		return err
	}
	changed, err := changes(string(text), f.version)
	if err != nil {
		return fmt.Errorf("%s: %w", *changelog, err)
	}
	entries, err := chartFiles(*source)
	if err != nil {
		return err
	}
	for i, e := range entries {
		switch e.name {
		case "berth/Chart.yaml":
			entries[i].data, err = chartMetadata(e.data, f.version, *images, changed)
		case "berth/values.yaml":
			// The comments of the values stay: people read them.
			entries[i].data, err = replaced(e, "  repository: "+developers+"\n", "  repository: "+*images+"\n")
		case "berth/README.md":
			entries[i].data, err = replaced(e, exampleChart, "oci://"+*images+"/charts/berth --version "+strings.TrimPrefix(f.version, "v"))
		}
		if err != nil {
			return err
		}
	}
	file := filepath.Join(*dir, "berth-"+strings.TrimPrefix(f.version, "v")+".tgz")
	if err := writeArchive(file, entries); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, file)
	return err
}

// chartFiles reads the files of a packed chart: Helm has followed its links and left out what .helmignore says.
func chartFiles(file string) ([]entry, error) {
	packed, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	uncompressed, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for archive := tar.NewReader(uncompressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{name: header.Name, data: data, mode: 0o644})
	}
}

// chartMetadata gives Chart.yaml the version of the release, and the annotations that tell of it
// (https://artifacthub.io/docs/topics/annotations/helm/).
func chartMetadata(text []byte, version, images string, changed []change) ([]byte, error) {
	var metadata map[string]any
	if err := yaml.Unmarshal(text, &metadata); err != nil {
		return nil, err
	}
	annotations, ok := metadata["annotations"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the chart has no annotations")
	}
	listed, err := yaml.Marshal(changed)
	if err != nil {
		return nil, err
	}
	metadata["version"], metadata["appVersion"] = strings.TrimPrefix(version, "v"), version
	annotations["artifacthub.io/changes"] = string(listed)
	annotations["artifacthub.io/prerelease"] = fmt.Sprint(strings.Contains(version, "-"))
	annotations["artifacthub.io/containsSecurityUpdates"] = fmt.Sprint(
		slices.ContainsFunc(changed, func(c change) bool { return c.Kind == "security" }))
	var named []map[string]string
	for _, name := range []string{"scheduler", "controller", "agent"} {
		named = append(named, map[string]string{"name": name, "image": images + "/berth-" + name + ":" + version})
	}
	if listed, err = yaml.Marshal(named); err != nil {
		return nil, err
	}
	annotations["artifacthub.io/images"] = string(listed)
	return yaml.Marshal(metadata)
}

// change is an entry of the changelog, of one of the kinds that Keep a Changelog and Artifact Hub share.
type change struct {
	Kind        string `json:"kind"`
	Description string `json:"description"`
}

var kinds = []string{"added", "changed", "deprecated", "removed", "fixed", "security"}

// changes reads the entries of one version of a changelog (https://keepachangelog.com/en/1.1.0/); those that are not
// released yet, where the version has no heading.
func changes(text, version string) ([]change, error) {
	section := ""
	for _, heading := range []string{strings.TrimPrefix(version, "v"), "Unreleased"} {
		if _, after, ok := strings.Cut(text, "\n## ["+heading+"]"); ok {
			section, _, _ = strings.Cut(after, "\n## [")
			break
		}
	}
	var found []change
	kind := ""
	for line := range strings.Lines(section) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "### "):
			kind = strings.ToLower(strings.TrimPrefix(line, "### "))
			if !slices.Contains(kinds, kind) {
				return nil, fmt.Errorf("%q is no kind of change; there are %s", kind, strings.Join(kinds, ", "))
			}
		case strings.HasPrefix(line, "- "):
			found = append(found, change{Kind: kind, Description: strings.TrimPrefix(line, "- ")})
		case strings.HasPrefix(line, "  ") && len(found) > 0:
			found[len(found)-1].Description += " " + strings.TrimSpace(line)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("nothing is said of %s, nor of what is unreleased", version)
	}
	return found, nil
}
