// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// memory keeps which process is of which pod in a file, for the next process of the agent on this node: a process
// whose cgroup is gone cannot be attributed anew.
type memory struct {
	path string
	boot string
	// saved is the content of the file.
	saved string
}

// memoryFile is the content of the file. PIDs and start times mean nothing after a reboot.
type memoryFile struct {
	Boot      string             `json:"boot"`
	Processes map[int]memoryItem `json:"processes"`
}

type memoryItem struct {
	Start uint64    `json:"start"`
	Pod   types.UID `json:"pod"`
}

// Remember keeps what is known of processes in a file, and starts from what it holds. That there is none yet, or one
// of before the last reboot, is no error.
func (a *Attributor) Remember(path string) error {
	boot, err := os.ReadFile(filepath.Join(a.proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return fmt.Errorf("remember processes: %w", err)
	}
	a.memory = &memory{path: path, boot: strings.TrimSpace(string(boot))}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remember processes: %w", err)
	}
	var f memoryFile
	if err := json.Unmarshal(content, &f); err != nil {
		return fmt.Errorf("remember processes: %s: %w", path, err)
	}
	if f.Boot != a.memory.boot {
		return nil
	}
	a.memory.saved = string(content)
	for pid, p := range f.Processes {
		a.processes[pid] = &process{start: p.Start, pod: p.Pod}
	}
	return nil
}

// save writes the file if it does not hold what is known.
func (a *Attributor) save() error {
	if a.memory == nil {
		return nil
	}
	f := memoryFile{Boot: a.memory.boot, Processes: map[int]memoryItem{}}
	for pid, p := range a.processes {
		if p.pod != "" {
			f.Processes[pid] = memoryItem{p.start, p.pod}
		}
	}
	content, err := json.Marshal(&f)
	if err != nil || string(content) == a.memory.saved {
		return err
	}
	temporary := a.memory.path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	if err := os.Rename(temporary, a.memory.path); err != nil {
		return err
	}
	a.memory.saved = string(content)
	return nil
}
