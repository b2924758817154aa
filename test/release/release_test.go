// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package release uses each artifact of a release from where users get it: the plugin by krew, images and chart from a
// registry, archives as they are downloaded. It tests what make release made; make test-release runs it.
package release

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// made is the release that is tested.
type made struct {
	// repository is the root of the source; dir has release/ and images/; bin has the lab and kubectl.
	repository, dir, bin, version string
}

// madeRelease returns the release that the environment names.
func madeRelease(t *testing.T) *made {
	t.Helper()
	m := &made{dir: os.Getenv("BERTH_RELEASE"), version: os.Getenv("BERTH_RELEASE_VERSION")}
	if m.dir == "" || m.version == "" {
		t.Skip("no release is named by BERTH_RELEASE and BERTH_RELEASE_VERSION: run make test-release")
	}
	var err error
	if m.repository, err = filepath.Abs("../.."); err != nil {
		t.Fatal(err)
	}
	m.bin = filepath.Join(m.repository, "bin")
	return m
}

// file is the path of a file that is published.
func (m *made) file(name string) string { return filepath.Join(m.dir, "release", name) }

// tools builds tools of build/tools.
func (m *made) tools(t *testing.T, names ...string) string {
	t.Helper()
	return strings.TrimSpace(m.run(t, nil, filepath.Join(m.repository, "build/tool.sh"), names...))
}

// run runs a program, which has to succeed, and returns what it wrote on stdout.
func (m *made) run(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	out, errors, err := m.try(t.Context(), env, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out, errors)
	}
	return out
}

// try runs a program. Variables of env are set beside those of the test; folders in PATH go before its own.
func (m *made) try(ctx context.Context, env []string, program string, args ...string) (out, errors string, err error) {
	command := exec.CommandContext(ctx, program, args...)
	command.Env = os.Environ()
	for _, variable := range env {
		if folders, ok := strings.CutPrefix(variable, "PATH="); ok {
			variable = "PATH=" + folders + string(os.PathListSeparator) + os.Getenv("PATH")
			// The program itself is looked up there, too.
			if found, err := lookUp(program, folders); err == nil {
				command.Path, command.Err = found, nil
			}
		}
		command.Env = append(command.Env, variable)
	}
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err = command.Run()
	return stdout.String(), stderr.String(), err
}

// lookUp finds a program in some folders.
func lookUp(program, folders string) (string, error) {
	for _, folder := range filepath.SplitList(folders) {
		if found, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return found, nil
		}
	}
	return "", exec.ErrNotFound
}
