// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"slices"
	"strings"
	"testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// TestMemoryLimitsByFiles: what is said of a limit in the environment of containers of the handler nvidia. (test/handoff holds it
// against the real runtimes.)
func TestMemoryLimitsByFiles(t *testing.T) {
	newer := elf + strings.Repeat("x", 3<<20) + limitsHook + "yz"
	older := elf + strings.Repeat("x", 3<<20)
	disabled := func(hook string) string {
		return "[nvidia-container-runtime.modes.jit-cdi]\nnvcdi-disable-hooks = [\"update-ldcache\", \"" + hook + "\"]\n"
	}
	for _, tc := range []struct {
		name    string
		files   files
		folders string
		state   berthv1alpha1.MemoryLimitState
		message string
	}{
		{
			name:  "the binary of a package with the hook",
			files: files{"/etc/containerd/config.toml": packaged, "/usr/bin/nvidia-container-runtime": newer}, folders: "/",
			state: berthv1alpha1.MemoryLimitEnforced, message: "/usr/bin/nvidia-container-runtime has the driver enforce it",
		},
		{
			name:  "an older one",
			files: files{"/etc/containerd/config.toml": packaged, "/usr/bin/nvidia-container-runtime": older}, folders: "/",
			state: berthv1alpha1.MemoryLimitIgnored, message: "older than the container toolkit 1.20.1",
		},
		{
			name:  "one out of sight is not guessed",
			files: files{"/etc/containerd/config.toml": packaged, "/usr/bin/nvidia-container-runtime": newer}, folders: "/etc,/usr/local",
		},
		{
			name:  "the binary behind an installer's wrapper",
			files: files{"/etc/containerd/config.toml": v3, "/usr/local/nvidia/toolkit/nvidia-container-runtime": wrapper, "/usr/local/nvidia/toolkit/nvidia-container-runtime.real": newer, "/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml": ""},
			state: berthv1alpha1.MemoryLimitEnforced, message: "nvidia-container-runtime.real",
		},
		{
			name:  "a wrapper without the binary behind it",
			files: files{"/etc/containerd/config.toml": v3, "/usr/local/nvidia/toolkit/nvidia-container-runtime": wrapper, "/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml": ""},
		},
		{
			name:  "mode legacy, with the newest binary",
			files: files{"/etc/containerd/config.toml": packaged, "/usr/bin/nvidia-container-runtime": newer, packagedConfig: legacy}, folders: "/",
			state: berthv1alpha1.MemoryLimitIgnored, message: "mode legacy",
		},
		{
			name:  "the hook is disabled",
			files: files{"/etc/containerd/config.toml": packaged, "/usr/bin/nvidia-container-runtime": newer, packagedConfig: disabled(limitsHook)}, folders: "/",
			state: berthv1alpha1.MemoryLimitIgnored, message: "nvcdi-disable-hooks",
		},
		{
			name:  "all hooks are disabled",
			files: files{"/etc/containerd/config.toml": packaged, "/usr/bin/nvidia-container-runtime": newer, packagedConfig: disabled("all")}, folders: "/",
			state: berthv1alpha1.MemoryLimitIgnored, message: "all is among",
		},
		{
			name:  "a handler that takes no GPUs has nothing to limit",
			files: files{"/etc/containerd/config.toml": packaged, "/usr/bin/nvidia-container-runtime": newer, packagedConfig: "[nvidia-container-runtime]\nmode = \"csv\"\n"}, folders: "/",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.folders == "" {
				tc.folders = "/etc,/usr/local"
			}
			found := Read(tc.files.write(t), strings.Split(tc.folders, ","), Node{})
			i := slices.IndexFunc(found.Runtimes, func(r berthv1alpha1.RuntimeHandOff) bool { return r.Handler == "nvidia" })
			if i < 0 {
				t.Fatalf("the handler is not found: %v", found.Unknown)
			}
			got := berthv1alpha1.MemoryLimits{}
			if l := found.Runtimes[i].MemoryLimits; l != nil {
				got = *l
			}
			if got.State != tc.state || !strings.Contains(got.Message, tc.message) {
				t.Errorf("got %+v, want %s and %q", got, tc.state, tc.message)
			}
		})
	}
}

// TestATextIsFoundWhereverItIs: files are read in parts of 64 KiB, and a text can lie across two of them.
func TestATextIsFoundWhereverItIs(t *testing.T) {
	for _, at := range []int{0, 1<<16 - len(limitsHook), 1<<16 - 5, 1<<16 - 1, 1 << 16, 1<<17 - 40, 1 << 17} {
		root := files{"/etc/x": strings.Repeat("z", at) + limitsHook, "/etc/y": strings.Repeat("z", at) + limitsHook[1:]}.write(t)
		h := &host{root: root, folders: []string{"/etc"}}
		if found, err := h.contains("/etc/x", limitsHook); !found || err != nil {
			t.Errorf("at %d it is not found: %v", at, err)
		}
		if found, err := h.contains("/etc/y", limitsHook); found || err != nil {
			t.Errorf("at %d it is found without its beginning: %v", at, err)
		}
	}
}
