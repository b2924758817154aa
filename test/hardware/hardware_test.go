// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/test/nvmlmock"
)

// envRun makes the test binary the program, for the child processes too.
const envRun = "BERTH_RUN_HARDWARE"

func TestMain(m *testing.M) {
	if os.Getenv(envRun) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// hardware runs the program and returns its report, what it said beside, and its exit code.
func hardware(t *testing.T, env []string, args ...string) (r report, log string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), envRun+"=1"), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("no report: %v\n%s%s", err, out.String(), said.String())
	}
	return r, said.String(), cmd.ProcessState.ExitCode()
}

func (m *machine) hardware(args ...string) (report, string, int) {
	m.t.Helper()
	return hardware(m.t, []string{nvmlmock.EnvState + "=" + m.path("state"), "BERTH_FAKE_CUDA=" + m.path("processes")},
		append([]string{"-nvml-library", m.nvml, "-cuda-library", m.cuda, "-nvidia-smi", m.path("nvidia-smi"), "-idle", "1s"}, args...)...)
}

// results are the results of a report's checks. Whether a cgroup can be made depends on the machine of the test.
func results(r *report) map[string]string {
	found := map[string]string{}
	for _, c := range r.Checks {
		if c.Name == "attribution to a pod" && c.Result == skipped {
			c.Result = passed
		}
		found[strings.TrimSpace(c.Name+" "+c.Device)] = c.Result
	}
	return found
}

func TestAllChecksPassOnAMachineThatIsAsItSays(t *testing.T) {
	t.Parallel() // the tests wait, and compute little
	m := newMachine(t, 2, faults{})
	r, log, code := m.hardware()
	want := map[string]string{"cost of the idle agent": passed}
	for i := range m.state.GPUs {
		for _, check := range []string{
			"nvidia-smi, idle", "memory of a process", "memory of a second process", "nvidia-smi, with two processes",
			"attribution to a pod", "activity", "memory after the process is killed",
		} {
			want[check+" "+m.state.GPUs[i].UUID] = passed
		}
	}
	if diff := cmp.Diff(want, results(&r)); diff != "" || code != 0 {
		t.Errorf("exit code %d (-want +got):\n%s%s", code, diff, log)
	}
	if r.Driver != m.state.Driver || r.Kernel == "" {
		t.Errorf("driver %q, kernel %q", r.Driver, r.Kernel)
	}
	for _, c := range r.Checks {
		switch c.Name {
		case "memory of a process":
			if got, context := c.Measured["addedToProcessMiB"], c.Measured["contextMiB"]; got != 512 || context != 300 {
				t.Errorf("the process has %v MiB more than a context of %v, want 512 and 300", got, context)
			}
		case "memory after the process is killed":
			if gone, back := c.Measured["noLongerListedAfterMillis"], c.Measured["memoryBackAfterMillis"]; back < gone || len(c.Series) < 2 {
				t.Errorf("memory is back after %v ms, the process gone after %v, by %v", back, gone, c.Series)
			}
		case "cost of the idle agent":
			if c.Measured["wakeupsPerSecond"] <= 0 || c.Measured["residentMiB"] <= 0 {
				t.Errorf("the agent's cost: %v", c.Measured)
			}
		}
	}
}

func TestChecksFailOnAMachineThatIsNotAsItSays(t *testing.T) {
	const gpu = " GPU-00000000-0000-4000-8000-000000000000"
	for _, tc := range []struct {
		name, check string
		faults      faults
	}{
		{"nvidia-smi says more than the agent", "nvidia-smi, idle", faults{smiMore: 100}},
		{"processes are not listed", "memory of a process", faults{unlisted: true}},
		{"processes have half of their memory", "memory of a process", faults{halved: true}},
		{"an idle process counts as active", "activity", faults{allActive: true}},
		{"a busy process counts as idle", "activity", faults{noneActive: true}},
		{"memory does not come back", "memory after the process is killed", faults{neverBack: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, 1, tc.faults)
			r, log, code := m.hardware("-patience", "2s", "-idle", "100ms")
			if got := results(&r)[tc.check+gpu]; got != failed || code != 1 {
				t.Errorf("%s: %q, exit code %d\n%s", tc.check, got, code, log)
			}
		})
	}
}

func TestWithoutADriverItIsSkipped(t *testing.T) {
	r, log, code := hardware(t, nil, "-nvml-library", filepath.Join(t.TempDir(), "libnvidia-ml.so.1"))
	if !strings.HasPrefix(log, "SKIPPED: no NVIDIA driver: ") || code != 0 || r.Skipped == "" || len(r.Checks) != 0 {
		t.Errorf("exit code %d, report %+v\n%s", code, r, log)
	}
}

func TestWithoutLibcudaOnlyNVMLIsCompared(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 2, faults{})
	r, log, code := m.hardware("-cuda-library", m.path("none.so.1"))
	got := results(&r)
	for _, gpu := range m.state.GPUs {
		if got["nvidia-smi, idle "+gpu.UUID] != passed || got["memory of a process "+gpu.UUID] != skipped || code != 0 {
			t.Errorf("exit code %d, %v\n%s", code, got, log)
		}
	}
}
