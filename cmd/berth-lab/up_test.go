// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// binDir returns a folder with the programs of these names.
func binDir(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOptions(t *testing.T) {
	var warnings strings.Builder
	cmd := &cobra.Command{}
	cmd.SetErr(&warnings)
	f := upFlags{binDir: binDir(t, "scheduler"), kubeconfig: "some.kubeconfig", nodes: 3, gpus: 4, gpuModel: "l40s-48"}
	options, err := f.options(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(options.Kubeconfig) {
		t.Errorf("kubeconfig %s is not absolute, as the line on stdout has to be", options.Kubeconfig)
	}
	if len(options.Nodes) != 3 || len(options.SchedulerConfig) == 0 || !slices.Equal(options.Scheduler, []string{filepath.Join(f.binDir, "scheduler")}) {
		t.Errorf("%d nodes, scheduler %q with a configuration of %d bytes", len(options.Nodes), options.Scheduler, len(options.SchedulerConfig))
	}
	if options.Controller != nil || !strings.Contains(warnings.String(), "controller") {
		t.Errorf("controller %q, warnings %q; want none, and a warning of it", options.Controller, &warnings)
	}
}

func TestOptionsOfABareLabHaveNoNodes(t *testing.T) {
	cmd := &cobra.Command{}
	f := upFlags{bare: true, nodes: 2, gpus: 8, gpuModel: "H100-80", noScheduler: true, noController: true}
	options, err := f.options(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if !options.Bare || len(options.Nodes) != 0 || options.Scheduler != nil {
		t.Errorf("options = %+v", options)
	}
}

// The demo is one binary; beside others, as make build leaves it, these are run, as they are in a cluster.
func TestProgramsAreThoseBesideElseThoseWithin(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, want ...string) {
		t.Helper()
		var f upFlags
		if got, err := f.program(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("program = %q, %v, want %q", got, err, want)
		}
	}
	for name := range programs {
		check(name, self, name)
	}
	beside := filepath.Join(filepath.Dir(self), "scheduler")
	if err := os.WriteFile(beside, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(beside) })
	check("scheduler", beside)
	check("controller", self, "controller")
}

func TestUpSaysWhatIsWrongBeforeItStartsAnything(t *testing.T) {
	other := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(other, []byte("clusters: [{name: production}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir()) // nor is there a prometheus
	tests := map[string]struct {
		args []string
		want string
	}{
		"no scheduler":          {[]string{"--bin-dir", t.TempDir()}, `run "make build"`},
		"unknown model":         {[]string{"--gpu-model", "abacus"}, "H100-80"},
		"no such fleet":         {[]string{"--fleet", "nowhere.yaml"}, `"demo"`},
		"nodes of a bare lab":   {[]string{"--bare", "--nodes", "3"}, "bare"},
		"fleet and nodes":       {[]string{"--fleet", "demo", "--gpus", "3"}, "fleet"},
		"argument":              {[]string{"now"}, "now"},
		"no such prometheus":    {[]string{"--monitoring", "--prometheus", "nowhere"}, "--prometheus: "},
		"no prometheus at all":  {[]string{"--monitoring"}, `run "make prometheus"`},
		"port alone":            {[]string{"--monitoring", "--monitoring-address", "9090"}, "HOST:PORT"},
		"somebody's kubeconfig": {[]string{"--bin-dir", binDir(t, "scheduler", "controller"), "--kubeconfig", other}, "not a lab's"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := newUpCommand(io.Discard)
			cmd.SilenceUsage, cmd.SilenceErrors = true, true
			cmd.SetErr(io.Discard)
			cmd.SetArgs(tt.args)
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %s", err, tt.want)
			}
		})
	}
}
