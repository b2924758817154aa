// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/component-base/logs/json/register"
	scheduler_perf "k8s.io/kubernetes/test/integration/scheduler_perf"
)

// TestMain makes this binary be the etcd that the harness looks for in PATH: nothing has to be installed.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "etcd" {
		// What is measured is the scheduler, not the disk.
		etcdmain.Main(append(os.Args, "--unsafe-no-fsync"))
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-perf-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = linkEtcd(dir)
	}
	if err == nil {
		// Else the harness leaves its files beside the workloads.
		err = flag.Set("data-items-dir", dir)
	}
	if err == nil {
		err = scheduler_perf.InitTests()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func linkEtcd(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Symlink(self, filepath.Join(dir, "etcd")); err != nil {
		return err
	}
	return os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}
