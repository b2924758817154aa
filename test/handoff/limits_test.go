// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/nvmlmock"
)

// checkLimits compares what the agent says of memory limits with the hooks that containers get, for each GPU one or none.
func checkLimits(t *testing.T, r *berthv1alpha1.RuntimeHandOff, hooks map[berthv1alpha1.DeviceForm]int, gpus int) {
	t.Helper()
	if len(r.Accepts) == 0 {
		if r.MemoryLimits != nil {
			t.Errorf("the agent says of limits of containers without GPUs: %+v", r.MemoryLimits)
		}
		return
	}
	if r.MemoryLimits == nil || r.MemoryLimits.Message == "" {
		t.Fatalf("the agent does not say what becomes of memory limits: %+v", r.MemoryLimits)
	}
	for form, n := range hooks {
		enforced := r.MemoryLimits.State == berthv1alpha1.MemoryLimitEnforced
		switch {
		case form == cdi && enforced && n == gpus, !enforced && n == 0:
		case form != cdi && enforced: // which specification is used is not known
		default:
			t.Errorf("%s: the agent says %+v, and the container has %d hooks for %d GPUs", form, r.MemoryLimits, n, gpus)
		}
	}
}

// TestLimitsReachTheDriver runs the real hook of the toolkit 1.20.1 as runc does before a container starts, and sees what it
// tells the driver's library. That a driver then enforces it, only a GPU could show.
func TestLimitsReachTheDriver(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the NVIDIA container toolkit")
	}
	const version = "1.20.1"
	binaries := t.TempDir()
	if err := Build(version, binaries); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		driver []string // options of the library
		env    []string
		groups string // the kind of file system that cgroups are
		// told is what the driver is told for each of two GPUs, in MiB; failure is why the container does not start.
		told, failure string
	}{
		{
			name: "the limit of the booking", driver: []string{nvmlmock.WithMemoryLimits}, groups: "cgroup2",
			env: []string{"NVIDIA_GPU_MEMORY_LIMIT=31232", "NVIDIA_GPU_MEMORY_REQUEST=31232"}, told: "31232 31232",
		},
		{
			name: "a guarantee that an image brings along is not more than the limit", driver: []string{nvmlmock.WithMemoryLimits}, groups: "cgroup2",
			env: []string{"NVIDIA_GPU_MEMORY_LIMIT=31232", "NVIDIA_GPU_MEMORY_REQUEST=99999"}, failure: "exceeds memory limit",
		},
		{
			name: "no variable", driver: []string{nvmlmock.WithMemoryLimits}, groups: "cgroup2",
		},
		{
			name: "a variable that refers to nothing", driver: []string{nvmlmock.WithMemoryLimits}, groups: "cgroup2",
			env: []string{"NVIDIA_GPU_MEMORY_LIMIT="}, failure: "failed to parse NVIDIA_GPU_MEMORY_LIMIT",
		},
		{
			name: "a driver that cannot", groups: "cgroup2",
			env: []string{"NVIDIA_GPU_MEMORY_LIMIT=31232"}, failure: "nvmlDeviceSetMemoryLimits_v1",
		},
		{
			name: "cgroups of version 1", driver: []string{nvmlmock.WithMemoryLimits}, groups: "tmpfs",
			env: []string{"NVIDIA_GPU_MEMORY_LIMIT=31232"}, failure: "only supported in cgroup v2",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := nvmlmock.Build(binaries, tc.driver...); errors.Is(err, nvmlmock.ErrNoCompiler) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			n := newNode(t, version, binaries)
			n.link(t, filepath.Join(binaries, ctkCommand), "/usr/bin/"+ctkCommand)
			packages("")(t, n, binaries)
			booked := []string{n.state.GPUs[1].UUID, n.state.GPUs[3].UUID}
			o := n.start(t, "nvidia", visible(cdi, booked), tc.env...)
			if o.failure != "" || len(o.limits) != len(booked) {
				t.Fatalf("the container has %d hooks for its limit, want one for each GPU: %q", len(o.limits), o.failure)
			}
			told, failure := n.path(t, "/told"), ""
			for _, hook := range o.limits {
				hook.Env = append(hook.Env, nvmlmock.EnvLimits+"="+told)
				if out, err := inCgroups(t, tc.groups, hook).CombinedOutput(); err != nil {
					failure = string(out)
				}
			}
			if berthv1alpha1.IsLimitFailure(failure) != (failure != "") {
				t.Errorf("a pod whose container fails so is not told of it: %q", failure)
			}
			if !strings.Contains(failure, tc.failure) || (failure == "") != (tc.failure == "") {
				t.Errorf("the hook failed by %q, want %q", failure, tc.failure)
			}
			var want []string
			for _, gpu := range booked {
				var soft, hard uint64
				if _, err := fmt.Sscan(tc.told, &soft, &hard); err == nil {
					want = append(want, fmt.Sprintf("%s %s %d %d", gpu, cgroup(t), soft<<20, hard<<20))
				}
			}
			if diff := cmp.Diff(want, lines(t, told)); diff != "" {
				t.Errorf("what the driver was told (-want +got):\n%s", diff)
			}
		})
	}
}

// inCgroups has a command run where /sys/fs/cgroup is a file system of a kind.
func inCgroups(t *testing.T, kind string, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	const mount = `mount -t "$0" none /sys/fs/cgroup && exec "$@"`
	if out, err := exec.Command("unshare", "--mount", "sh", "-c", mount, kind, "true").CombinedOutput(); err != nil {
		t.Skipf("cgroups cannot be mounted here: %v: %s", err, out)
	}
	inside := exec.Command("unshare", append([]string{"--mount", "sh", "-c", mount, kind}, c.Args...)...)
	inside.Env, inside.Stdin = c.Env, c.Stdin
	return inside
}

// cgroup returns the cgroup of this process, which stands for the container's, as the hook finds it.
func cgroup(t *testing.T) string {
	t.Helper()
	for _, line := range lines(t, "/proc/self/cgroup") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join("/sys/fs/cgroup", path)
		}
	}
	t.Skip("this process has no cgroup of version 2")
	return ""
}

// lines returns the lines of a file in order; none if there is no file.
func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	all := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return all
}
