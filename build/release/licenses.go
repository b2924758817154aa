// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// licenseName is what files are called that have to go with a program: terms, and what the authors want to be told.
var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-._].*)?$`)

// foreign are folders of a module whose licenses are of nothing that is linked.
var foreign = []string{"LICENSES", "testdata", "vendor"}

// standardLibrary is what Go itself is called among the modules.
const standardLibrary = "Go's standard library"

// parting stands before each text.
var parting = "\n" + strings.Repeat("=", 78) + "\n"

// licensesCommand writes the licenses of all that was linked into programs, each text once, below the modules that have it.
// The sources have to lie in Go's module cache, as they do after a build.
func licensesCommand(args []string, out io.Writer) error {
	f := flags("licenses")
	if err := f.parse(args); err != nil {
		return err
	}
	if len(f.Args()) == 0 {
		return fmt.Errorf("licenses: name the programs")
	}
	root, cache, err := goFolders()
	if err != nil {
		return err
	}
	sources := map[string]string{standardLibrary: root} // folders
	for _, program := range f.Args() {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return err
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			if sources[m.Path+" "+m.Version], err = inCache(cache, m); err != nil {
				return err
			}
		}
	}
	return writeLicenses(out, sources)
}

// goFolders returns where Go itself is, and its module cache.
func goFolders() (root, cache string, err error) {
	said, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return "", "", fmt.Errorf("go env: %w", err)
	}
	root, cache, _ = strings.Cut(strings.TrimSpace(string(said)), "\n")
	return root, cache, nil
}

// inCache returns the folder of a module in the module cache.
func inCache(cache string, m *debug.Module) (string, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, filepath.FromSlash(path)+"@"+version), nil
}

// writeLicenses writes the texts that lie in folders, in the order of their first owners.
func writeLicenses(out io.Writer, sources map[string]string) error {
	owners := map[string][]string{} // of a text
	for name, dir := range sources {
		texts, err := licensesIn(dir, name != standardLibrary)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(texts) == 0 {
			return fmt.Errorf("%s: no license in %s", name, dir)
		}
		for _, text := range texts {
			owners[text] = append(owners[text], name)
		}
	}
	var blocks []string
	for text, names := range owners {
		slices.Sort(names)
		blocks = append(blocks, strings.Join(names, "\n")+"\n\n"+text)
	}
	slices.Sort(blocks)
	_, err := fmt.Fprintf(out, "What was linked into the programs beside Berth itself, and its licenses.\n%s",
		parting+strings.Join(blocks, parting))
	return err
}

// licensesIn returns the texts of the licenses in a folder, and in those below it if wanted: what an author took over from others
// has theirs beside it. Each text is there once.
func licensesIn(dir string, below bool) (texts []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (!below || slices.Contains(foreign, d.Name())):
			return filepath.SkipDir
		case d.IsDir() || !licenseName.MatchString(d.Name()) || filepath.Ext(path) == ".go":
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if text := string(bytes.TrimSpace(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))) + "\n"; !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
		return nil
	})
	return texts, err
}
