// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func shell(t *testing.T, script string) (*Process, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "output")
	output, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { output.Close() })
	return &Process{
		Name: "script", Path: "/bin/sh", Output: output,
		Args: func() ([]string, error) { return []string{"-c", script}, nil },
	}, file
}

// start runs p in the background and returns what stops it and waits for its end.
func start(t *testing.T, p *Process) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("still running 20s after it was to stop")
		}
	}
}

// pids returns what the scripts have printed, waiting for n lines.
func pids(t *testing.T, file string, n int) []int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Fields(string(data)); len(lines) >= n {
			var pids []int
			for _, line := range lines {
				var pid int
				if _, err := fmt.Sscan(line, &pid); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				pids = append(pids, pid)
			}
			return pids
		}
		if time.Now().After(deadline) {
			t.Fatalf("fewer than %d lines after 20s: %q", n, data)
		}
	}
}

// alive says whether the process runs; one that is dead but not yet reaped by its new parent does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func checkGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived Run", pid)
		}
	}
}

func TestAProgramThatIsKilledIsStartedAgain(t *testing.T) {
	p, file := shell(t, "echo $$; exec sleep 1000")
	stop := start(t, p)
	first := pids(t, file, 1)[0]
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := pids(t, file, 2)[1]
	stop() // which also waits until the second start is counted: its output can come before
	if second == first || p.Starts() != 2 {
		t.Errorf("processes %d and %d after %d starts, want two processes", first, second, p.Starts())
	}
	checkGone(t, second)
}

func TestAProgramThatIgnoresTheSignalIsKilledWithItsChildren(t *testing.T) {
	p, file := shell(t, "trap '' TERM; sleep 1000 & echo $! $$; wait; sleep 1000")
	stop := start(t, p)
	all := pids(t, file, 2)
	stop()
	for _, pid := range all {
		checkGone(t, pid)
	}
}

func TestAProgramThatDoesNotExistIsAnError(t *testing.T) {
	p := &Process{Name: "nothing", Path: "/does/not/exist", Args: func() ([]string, error) { return nil, nil }}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("Run = %v, want an error that names the file", err)
	}
}
