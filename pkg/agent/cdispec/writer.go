// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cdispec

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/agent/cgroup"
)

// managementFiles are what the toolkit calls its specification: its installer, and nvidia-ctk cdi generate.
var managementFiles = []string{"management.nvidia.com-gpu.yaml", "management.nvidia.com-gpu.json"}

// Writer keeps the specification of a node as its GPUs and its driver are. It implements agent.Specification.
type Writer struct {
	// Dir is the folder of specifications, /var/run/cdi.
	Dir string
	// ProcRoot is the host's proc file system.
	ProcRoot string

	mounts []string
}

// Update writes the specification if it is not what it should be. When it cannot be made, what is there goes: a
// container that does not start is better than one with the files of a driver that is gone.
func (w *Writer) Update(files map[string]string) error {
	spec, err := w.derive(files)
	path := filepath.Join(w.Dir, File)
	if err != nil {
		if removeErr := os.Remove(path); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
		return err
	}
	w.mounts = mountPoints(spec)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, spec) {
		return nil
	}
	// The name of a file that is not finished must not end as a specification's does.
	f, err := os.CreateTemp(w.Dir, ".berth-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(spec)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

func (w *Writer) derive(files map[string]string) ([]byte, error) {
	for _, name := range managementFiles {
		text, err := os.ReadFile(filepath.Join(w.Dir, name))
		if err == nil {
			return Derive(text, files)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the NVIDIA container toolkit has written no specification %s into %s", managementFiles[0], w.Dir)
}

// Without returns the node's pods none of whose processes has a file of the driver that the specification mounts: nobody
// injected it when their containers were made. A pod whose processes cannot be looked at is not among them.
func (w *Writer) Without() []types.UID {
	seen := map[types.UID]bool{} // with the file or not
	entries, err := os.ReadDir(w.ProcRoot)
	if err != nil || len(w.mounts) == 0 {
		return nil
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		group, err := os.ReadFile(filepath.Join(w.ProcRoot, e.Name(), "cgroup"))
		if err != nil {
			continue
		}
		uid, ok := cgroup.PodUID(string(group))
		if !ok || seen[uid] {
			continue
		}
		mounts, err := os.ReadFile(filepath.Join(w.ProcRoot, e.Name(), "mountinfo"))
		if err != nil {
			seen[uid] = true // it may have it
			continue
		}
		seen[uid] = seen[uid] || w.hasMount(string(mounts))
	}
	var without []types.UID
	for uid, injected := range seen {
		if !injected {
			without = append(without, uid)
		}
	}
	return without
}

// hasMount looks for the mount points in a mountinfo, whose fifth word they are (proc_pid_mountinfo(5)).
func (w *Writer) hasMount(mountinfo string) bool {
	for line := range strings.Lines(mountinfo) {
		if words := strings.Fields(line); len(words) > 4 && slices.Contains(w.mounts, words[4]) {
			return true
		}
	}
	return false
}
