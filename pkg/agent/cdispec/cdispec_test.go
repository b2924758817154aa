// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cdispec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// management is what nvidia-ctk 1.20.1 writes by --mode=management, shortened.
const management = `cdiVersion: 0.5.0
kind: management.nvidia.com/gpu
devices:
- name: all
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia-uvm, hostPath: /run/nvidia/driver/dev/nvidia-uvm, major: 510, fileMode: 438, permissions: rwm}
    - {path: /dev/nvidia0, major: 195, fileMode: 438, permissions: rwm}
    - {path: /dev/nvidia1, major: 195, minor: 1, fileMode: 438, permissions: rwm}
    - {path: /dev/nvidiactl, major: 195, minor: 255}
    - {path: /dev/nvidia-caps/nvidia-cap1}
    - {path: /dev/nvidia-caps-imex-channels/channel0}
    - {path: /dev/nvidia-nvswitchctl}
    additionalGids: [44]
    hooks: [{hookName: createContainer, path: chmod}]
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  hooks: [{hookName: createContainer, path: /usr/bin/nvidia-cdi-hook, args: [nvidia-cdi-hook, update-ldcache]}]
  mounts:
  - {hostPath: /run/nvidia/driver/usr/lib64/libcuda.so.580, containerPath: /usr/lib64/libcuda.so.580, options: [ro]}
`

const derived = `cdiVersion: 0.5.0
kind: berth.dev/gpu
devices:
- name: GPU-a
  containerEdits: {deviceNodes: [{path: /dev/nvidia1, major: 195, minor: 1, fileMode: 438, permissions: rwm}]}
- name: GPU-b
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, major: 195, fileMode: 438, permissions: rwm}]}
containerEdits:
  additionalGids: [44]
  deviceNodes:
  - {path: /dev/nvidia-uvm, hostPath: /run/nvidia/driver/dev/nvidia-uvm, major: 510, fileMode: 438, permissions: rwm}
  - {path: /dev/nvidiactl, major: 195, minor: 255}
  env: [NVIDIA_VISIBLE_DEVICES=void]
  hooks: [{hookName: createContainer, path: /usr/bin/nvidia-cdi-hook, args: [nvidia-cdi-hook, update-ldcache]}]
  mounts:
  - {hostPath: /run/nvidia/driver/usr/lib64/libcuda.so.580, containerPath: /usr/lib64/libcuda.so.580, options: [ro]}
`

var gpuFiles = map[string]string{"GPU-b": "/dev/nvidia0", "GPU-a": "/dev/nvidia1"}

func decode(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDerive(t *testing.T) {
	got, err := Derive([]byte(management), gpuFiles)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decode(t, []byte(derived)), decode(t, got)); diff != "" {
		t.Errorf("specification (-want +got):\n%s", diff)
	}
	for name, tc := range map[string]struct {
		management string
		files      map[string]string
		want       string
	}{
		"a GPU that the toolkit's does not have": {management, map[string]string{"GPU-a": "/dev/nvidia0", "GPU-c": "/dev/nvidia7"}, "does not have /dev/nvidia7 of GPU GPU-c"},
		"a file that is no GPU's":                {management, map[string]string{"GPU-a": "/dev/nvidiactl"}, "does not have /dev/nvidiactl"},
		"no GPUs":                                {management, nil, "no GPU"},
		"a specification of another kind":        {strings.ReplaceAll(management, "management.", ""), gpuFiles, "no device management.nvidia.com/gpu=all"},
		"no specification":                       {"{", gpuFiles, "the toolkit's specification"},
	} {
		if got, err := Derive([]byte(tc.management), tc.files); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %s", name, err, got)
		}
	}
}

func TestUpdateKeepsTheSpecificationAsTheDriverIs(t *testing.T) {
	w := &Writer{Dir: t.TempDir()}
	own := filepath.Join(w.Dir, File)
	if err := w.Update(gpuFiles); err == nil || !strings.Contains(err.Error(), "has written no specification management.nvidia.com-gpu.yaml") {
		t.Fatalf("without the toolkit's: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(w.Dir, "management.nvidia.com-gpu.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(management)
	if err := w.Update(gpuFiles); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(own)
	if err != nil || before.Mode().Perm() != 0o644 {
		t.Fatalf("%v, %v", before, err)
	}
	if err := w.Update(gpuFiles); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(own); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again though nothing changed: %v", err)
	}
	write(strings.ReplaceAll(management, "libcuda.so.580", "libcuda.so.590"))
	if err := w.Update(gpuFiles); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(own); err != nil || !strings.Contains(string(text), "libcuda.so.590") || strings.Contains(string(text), "580") {
		t.Errorf("after an upgrade of the driver: %s, %v", text, err)
	}
	if err := w.Update(nil); err == nil {
		t.Error("no error without GPUs")
	}
	if _, err := os.Stat(own); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there without GPUs: %v", err)
	}
	if entries, _ := os.ReadDir(w.Dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestWithout(t *testing.T) {
	const (
		injected = "11111111-1111-1111-1111-111111111111"
		missing  = "22222222-2222-2222-2222-222222222222"
		hidden   = "33333333-3333-3333-3333-333333333333"
	)
	const mount = "700 600 8:1 /usr/lib64/libcuda.so.580 /usr/lib64/libcuda.so.580 ro,nosuid - ext4 /dev/sda1 rw\n"
	const elsewhere = "701 600 8:1 /usr/lib64/libcuda.so.580 /mnt/libcuda.so.580 ro,nosuid - ext4 /dev/sda1 rw\n"
	w := &Writer{Dir: t.TempDir(), ProcRoot: t.TempDir()}
	for pid, p := range map[string]struct{ pod, mounts string }{
		"10": {injected, elsewhere}, "11": {injected, elsewhere + mount}, "12": {injected, elsewhere}, "20": {missing, elsewhere}, "21": {missing, ""}, "30": {hidden, ""}, "self": {missing, mount},
	} {
		dir := filepath.Join(w.ProcRoot, pid)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::/kubepods/pod"+p.pod+"/c\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if p.pod == hidden {
			continue // its mounts cannot be read
		}
		if err := os.WriteFile(filepath.Join(dir, "mountinfo"), []byte(p.mounts), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.Without(); got != nil {
		t.Errorf("before there is a specification: %v", got)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "management.nvidia.com-gpu.yaml"), []byte(management), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Update(gpuFiles); err != nil {
		t.Fatal(err)
	}
	if got := w.Without(); !slices.Equal(got, []types.UID{missing}) {
		t.Errorf("pods without their GPUs: %v, want %s", got, missing)
	}
}
