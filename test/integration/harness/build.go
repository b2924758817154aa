// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package harness runs labs for tests: berth-lab, built from source, as child processes, with the real scheduler and
// controller. Tests then drive them through the API as a user would.
package harness

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// buildTimeout bounds the build, of which the first on a machine takes long.
	buildTimeout = 30 * time.Minute
	// EnvBinDir names a folder with the programs to use instead of building them.
	EnvBinDir = "BERTH_BIN_DIR"
	// EnvKubeAPIServer names the kube-apiserver that labs, and the control plane of the tests of the manifests, run
	// instead of the one that is linked into them (make test-skew). EnvAPIServerArgs are further arguments of it,
	// separated by spaces.
	EnvKubeAPIServer = "BERTH_KUBE_APISERVER"
	EnvAPIServerArgs = "BERTH_KUBE_APISERVER_ARGS"
)

// programs is what a lab consists of.
var programs = []string{"berth-lab", "scheduler", "controller"}

// binDir is where the programs are; empty with -short.
var binDir string

// Main is for TestMain: it builds the programs, unless the tests are run with -short, and then runs the tests. It
// returns the exit code.
func Main(m *testing.M) int {
	flag.Parse()
	log.SetLogger(klog.Background()) // controller-runtime's client complains without one
	if !testing.Short() {
		ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
		defer cancel()
		var err error
		packages := make([]string, len(programs))
		for i, program := range programs {
			packages[i] = "./cmd/" + program
		}
		if binDir, err = build(ctx, packages); err != nil {
			fmt.Fprintln(os.Stderr, "build the lab:", err)
			return 1
		}
	}
	return m.Run()
}

// Build builds further programs beside those of the lab and returns their folder.
func Build(t testing.TB, packages ...string) string {
	t.Helper()
	dir, err := build(t.Context(), packages)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// build returns a folder with the programs of packages, built from this module. They are in bin/test, where the next run
// finds those that need not be linked again.
func build(ctx context.Context, packages []string) (string, error) {
	if dir := os.Getenv(EnvBinDir); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := output(ctx, "", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	version, err := output(ctx, root, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "test")
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	args := []string{
		"build", "-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion=" + version, "-o", dir + string(filepath.Separator),
	}
	_, err = output(ctx, root, append(args, packages...)...)
	return dir, err
}

// lock waits until no other package's tests build into the folder: go test runs several at once.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, err
	}
	return func() { _ = file.Close() }, nil
}

// output runs the go command and returns what it printed.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Program returns the path of one of the programs, to run it apart from a lab.
func Program(name string) string { return filepath.Join(binDir, name) }
