// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Versions of the toolkit that are run; each has a module below toolkit/.
var Versions = []string{"1.17.8", "1.18.2", "1.20.1"}

// Commands of the toolkit that are built.
const (
	runtimeCommand = "nvidia-container-runtime"
	cdiCommand     = "nvidia-container-runtime.cdi"
	legacyCommand  = "nvidia-container-runtime.legacy"
	hookCommand    = "nvidia-container-runtime-hook"
	ctkCommand     = "nvidia-ctk"
)

// Build builds the commands of a version into dir, which takes a minute the first time and seconds later.
func Build(version, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The toolkit finds the driver's library at run time, so what it calls of that is bound late.
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w -extldflags=-Wl,-z,lazy", "-o", dir+"/", "tool")
	cmd.Dir = filepath.Join("toolkit", version)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off")
	if os.Getenv("CGO_CFLAGS") == "" {
		cmd.Env = append(cmd.Env, "CGO_CFLAGS=-O2 -g -Wno-deprecated-declarations")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the toolkit %s: %w\n%s", version, err, out)
	}
	return nil
}
