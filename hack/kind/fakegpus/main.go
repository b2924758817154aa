// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command fakegpus writes what makes a folder of a kind node look like a driver with GPUs: the NVML library of
// test/nvmlmock, the state that it reads, and the CDI specification that the NVIDIA container runtime hands devices
// out by. The device nodes themselves are the caller's to make.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-dev/berth/test/e2e/kindgpu"
	"github.com/berth-dev/berth/test/nvmlmock"
)

func main() {
	node := flag.String("node", "", "name of the node")
	gpus := flag.Int("gpus", 4, "number of GPUs")
	dir := flag.String("dir", "", "folder to write to")
	mounted := flag.String("mounted", "", "where the node has that folder")
	flag.Parse()
	if err := write(*dir, *mounted, *node, *gpus); err != nil {
		fmt.Fprintln(os.Stderr, "fakegpus:", err)
		os.Exit(1)
	}
}

func write(dir, mounted, node string, gpus int) error {
	if dir == "" || mounted == "" || node == "" || gpus < 1 {
		return fmt.Errorf("-node, -dir and -mounted are needed, and at least one GPU")
	}
	for _, d := range []string{kindgpu.DriverDir, kindgpu.CDIDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	library, err := nvmlmock.Build(filepath.Join(dir, kindgpu.DriverDir))
	if err != nil {
		return err
	}
	state := kindgpu.State(node, gpus)
	// By the names of its libraries the container toolkit finds out where a driver is, and of which version.
	for _, name := range []string{"libnvidia-ml.so.", "libcuda.so."} {
		if err := os.Link(library, filepath.Join(dir, kindgpu.DriverDir, name+state.Driver)); err != nil {
			return err
		}
	}
	if err := state.WriteFile(filepath.Join(dir, kindgpu.DriverDir, kindgpu.StateFile)); err != nil {
		return err
	}
	for name, spec := range kindgpu.Specs(&state, filepath.Join(mounted, kindgpu.DriverDir)) {
		text, err := json.MarshalIndent(spec, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, kindgpu.CDIDir, name), append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}
