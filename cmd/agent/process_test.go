// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/pkg/agent/agenttest"
	"github.com/berth-dev/berth/test/nvmlmock"
)

// envRunAgent makes the test binary be the agent, so that tests start a real process of it.
const envRunAgent = "BERTH_TEST_RUN_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(envRunAgent) != "" {
		main()
		os.Exit(0)
	}
	if os.Getenv(envRole) != "" {
		playRole()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const nodeName = "node-1"

// machine is a simulated machine with an agent on it.
type machine struct {
	t       testing.TB
	dir     string
	library string
	server  *agenttest.Server
	state   nvmlmock.State
	agent   *exec.Cmd
}

// newMachine returns a machine of eight GPUs. Its agent is not started yet.
func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), server: agenttest.NewServer(t), state: nvmlmock.DGX(8)}
	var err error
	m.library, err = nvmlmock.Build(m.dir)
	if errors.Is(err, nvmlmock.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.path("proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.apply()
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// apply changes the hardware to what m.state says.
func (m *machine) apply() {
	m.t.Helper()
	if err := m.state.WriteFile(m.path("state")); err != nil {
		m.t.Fatal(err)
	}
}

// command returns the agent as a command of this machine.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), envRunAgent+"=1", nvmlmock.EnvState+"="+m.path("state"))
	return cmd
}

// start runs the agent until the test ends, and logs what it says if the test failed.
func (m *machine) start(args ...string) {
	m.t.Helper()
	kubeconfig := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`, m.server.URL)
	if err := os.WriteFile(m.path("kubeconfig"), []byte(kubeconfig), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.agent = m.command(append([]string{
		"--node-name=" + nodeName, "--kubeconfig=" + m.path("kubeconfig"), "--nvml-library=" + m.library,
		"--proc-root=" + m.path("proc"), "--pod-resources-socket=", "--listen-address=",
	}, args...)...)
	log := &strings.Builder{}
	m.agent.Stderr = log
	if err := m.agent.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if m.agent.ProcessState == nil {
			_ = m.agent.Process.Signal(syscall.SIGTERM)
			if err := m.agent.Wait(); err != nil {
				m.t.Errorf("agent: %v", err)
			}
		}
		if m.t.Failed() {
			m.t.Logf("the agent said:\n%s", log)
		}
	})
}

// process makes a process appear in /proc, in the cgroup of a pod; of none if the UID is empty.
func (m *machine) process(pid int, podUID string) {
	m.t.Helper()
	dir := m.path(filepath.Join("proc", strconv.Itoa(pid)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	cgroup := "0::/user.slice/user-1000.slice/session-1.scope\n"
	if podUID != "" {
		cgroup = "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" +
			strings.ReplaceAll(podUID, "-", "_") + ".slice/cri-containerd-0123.scope\n"
	}
	stat := fmt.Sprintf("%d (python3) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, 1000+pid)
	for name, content := range map[string]string{"cgroup": cgroup, "stat": stat} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
}

// until waits for a condition, for at most the 3 s that a report may take to be right.
func (m *machine) until(what string, condition func() bool) {
	m.t.Helper()
	const limit = 3 * time.Second
	start := time.Now()
	for !condition() {
		if time.Since(start) > limit {
			m.t.Fatalf("%s: not within %s; the report is %+v", what, limit, m.server.Node())
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Logf("%s: after %s", what, time.Since(start).Round(10*time.Millisecond))
}
