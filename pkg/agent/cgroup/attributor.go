// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// rememberFor is for how many calls a process that is no longer asked for is remembered, so that one reading that
// missed it does not lose the pod of a process whose cgroup is gone.
const rememberFor = 120

// Attributor finds the pods of processes in /proc. It remembers them by PID and start time, which together are never
// reused, so that a process is still known as its pod's own when its cgroup is gone or it is no more than a zombie
// whose memory the driver has not freed yet. It is not safe for concurrent use.
type Attributor struct {
	proc      string
	processes map[int]*process
	// memory is where the processes are kept; nil = nowhere.
	memory *memory
	// saveFailed is whether the last attempt to keep them failed, which is said once.
	saveFailed bool
}

type process struct {
	// start is when it started, in clock ticks since boot; zero if it was gone when it was first asked for.
	start uint64
	pod   types.UID
	// missed is how many calls did not ask for it.
	missed int
}

// NewAttributor returns an attributor that reads the proc file system of the host at root, "/proc".
func NewAttributor(root string) *Attributor {
	return &Attributor{proc: root, processes: map[int]*process{}}
}

// Attribute returns the pods of processes; a PID that is not in the result belongs to no known pod.
func (a *Attributor) Attribute(pids []int) map[int]types.UID {
	pods := make(map[int]types.UID, len(pids))
	for _, p := range a.processes {
		p.missed++
	}
	for _, pid := range pids {
		if uid := a.podOf(pid); uid != "" {
			pods[pid] = uid
		}
	}
	for pid, p := range a.processes {
		if p.missed > rememberFor {
			delete(a.processes, pid)
		}
	}
	err := a.save()
	if err != nil && !a.saveFailed {
		klog.Background().Error(err, "Pods of processes not kept for the next start")
	}
	a.saveFailed = err != nil
	return pods
}

func (a *Attributor) podOf(pid int) types.UID {
	known := a.processes[pid]
	start, err := a.startOf(pid)
	if err != nil {
		if known == nil {
			return ""
		}
		// Nothing has that PID now, so it was not reused: what the driver still lists is the process that was.
		known.missed = 0
		return known.pod
	}
	if known == nil || known.start != start {
		known = &process{start: start}
		a.processes[pid] = known
	}
	known.missed = 0
	if known.pod == "" {
		// A process of no pod is asked for again: it may have been moved since.
		if content, err := os.ReadFile(a.file(pid, "cgroup")); err == nil {
			known.pod, _ = PodUID(string(content))
		}
	}
	return known.pod
}

var errStat = errors.New("not the format of /proc/<pid>/stat")

// startOf returns when a process started, in clock ticks since boot: field 22 of /proc/<pid>/stat (proc(5)).
func (a *Attributor) startOf(pid int) (uint64, error) {
	stat, err := os.ReadFile(a.file(pid, "stat"))
	if err != nil {
		return 0, err
	}
	// Field 2 is the command in parentheses, which may itself hold spaces and parentheses.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errStat
	}
	const fieldAfterCommand, fieldStart = 3, 22
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= fieldStart-fieldAfterCommand {
		return 0, errStat
	}
	return strconv.ParseUint(fields[fieldStart-fieldAfterCommand], 10, 64)
}

func (a *Attributor) file(pid int, name string) string {
	return filepath.Join(a.proc, strconv.Itoa(pid), name)
}
