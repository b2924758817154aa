// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// followInterval is how often new containers are looked for. One that lived for less has no log.
const followInterval = 2 * time.Second

// followLogs keeps the logs of Berth's containers from now on, also of those that are gone when a test fails. It
// returns how to stop.
func (c *cluster) followLogs(t *testing.T) func() {
	t.Helper()
	dir := filepath.Join(c.artifacts, "logs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for followed := map[string]bool{}; ctx.Err() == nil; {
			// One line for each container that runs, or did: pod, container, and its ID.
			out, _ := command(ctx, "kubectl", "-n", systemNamespace, "get", "pods", "-o", "jsonpath={range .items[*]}"+
				"{.metadata.name} {.status.containerStatuses[0].name} {.status.containerStatuses[0].containerID}{'\\n'}{end}")
			for line := range strings.Lines(out) { // an error shows as a missing log
				if words := strings.Fields(line); len(words) == 3 && !followed[words[2]] {
					followed[words[2]] = true
					running.Go(func() { follow(ctx, dir, words[0], words[1], words[2]) })
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(followInterval):
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// follow appends the log of a container to a file until it ends.
func follow(ctx context.Context, dir, pod, container, id string) {
	id = id[max(0, len(id)-8):]
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s-%s.log", pod, id)), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, "kubectl", "-n", systemNamespace, "logs", "--follow", "--timestamps", pod, "-c", container)
	cmd.Stdout, cmd.Stderr = file, file
	_ = cmd.Run() // it ends with the container, or with the test
}

// keepState keeps what the cluster looks like when a part has failed.
func (c *cluster) keepState(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout) // t's own has ended
	defer cancel()
	dir := filepath.Join(c.artifacts, strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' || r == ',' {
			return '_'
		}
		return r
	}, t.Name()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Error(err)
		return
	}
	keep := func(name, program string, args ...string) {
		out, err := command(ctx, program, args...)
		if err != nil {
			out += err.Error()
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(out), 0o644); err != nil {
			t.Error(err)
		}
	}
	keep("pods", "kubectl", "get", "pods", "-A", "-o", "wide")
	keep("events", "kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp")
	keep("describe", "kubectl", "describe", "pods", "-n", namespace)
	keep("describe-system", "kubectl", "describe", "pods", "-n", systemNamespace)
	keep("objects.yaml", "kubectl", "get", "pods,nodes,gpunodes,modelprofiles,leases", "-A", "-o", "yaml")
	for _, w := range c.workers {
		keep(w.name+".journal", "docker", "exec", w.name, "journalctl", "--no-pager", "-u", "kubelet", "-u", "containerd")
	}
	t.Logf("the cluster's state is in %s, logs are in %s", dir, filepath.Join(c.artifacts, "logs"))
}
