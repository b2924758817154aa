// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvmlmock

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed lib/nvmlmock.c
var source []byte

// LibraryName is what the agent, like every user of NVML, loads.
const LibraryName = "libnvidia-ml.so.1"

// ErrNoCompiler says that this machine has no C compiler to build the library with.
var ErrNoCompiler = errors.New("nvmlmock: no C compiler")

// WithMemoryLimits makes it the library of a driver that can limit the memory of containers (r615 and later), which writes
// down what it is told in the file that EnvLimits names.
const WithMemoryLimits = "-DMEMORY_LIMITS"

// EnvLimits names the file to which each limit is added as a line: the GPU's UUID, the cgroup, soft and hard limit in bytes.
const EnvLimits = "BERTH_NVML_LIMITS"

// Build compiles the library into dir and returns its path.
func Build(dir string, options ...string) (string, error) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		if compiler, err = exec.LookPath("gcc"); err != nil {
			return "", ErrNoCompiler
		}
	}
	src := filepath.Join(dir, "nvmlmock.c")
	if err := os.WriteFile(src, source, 0o644); err != nil {
		return "", fmt.Errorf("nvmlmock: %w", err)
	}
	defer os.Remove(src)
	library := filepath.Join(dir, LibraryName)
	arguments := append([]string{"-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden",
		"-pthread", "-Wl,-soname," + LibraryName, "-o", library, src}, options...)
	out, err := exec.Command(compiler, arguments...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nvmlmock: %w: %s", err, out)
	}
	return library, nil
}
