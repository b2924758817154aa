// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	// envRole makes the test binary a process of some rights, which does what the role says.
	envRole = "BERTH_TEST_ROLE"
	// roleVictim sleeps; roleProbe tries things on another process, and prints what it could.
	roleVictim, roleProbe = "victim", "probe"
	// agentGroup is the group of the shipped DaemonSet, which no other process should have beside user 0.
	agentGroup = 65532
)

// withoutCapabilities takes all capabilities from this process for good, as a container runtime does that drops all, and
// becomes a new program: only then are they gone.
func withoutCapabilities() error {
	runtime.LockOSThread() // they are the thread's, and the thread that becomes the program must be the one without
	for c := 0; ; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			break // there is no such capability
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), "BERTH_TEST_DROPPED=1"))
}

// playRole is what the test binary does instead of tests when it was given a role.
func playRole() {
	if os.Getenv("BERTH_TEST_DROPPED") == "" {
		fmt.Println("capabilities not dropped:", withoutCapabilities())
		os.Exit(1)
	}
	if os.Getenv(envRole) == roleVictim {
		fmt.Println("ready")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	pid, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	say := func(what string, err error) {
		answer := "yes"
		if err != nil {
			answer = "no"
		}
		fmt.Println(what+":", answer)
	}
	for _, file := range []string{"cmdline", "cgroup", "stat", "mountinfo", "environ", "maps"} {
		_, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		say(file, err)
	}
	_, err = os.ReadDir(fmt.Sprintf("/proc/%d/root/", pid))
	say("root", err)
	say("signal", syscall.Kill(pid, 0))
	conn, err := net.Dial("unix", os.Args[2])
	if err == nil {
		_ = conn.Close()
	}
	say("socket", err)
}

// as returns a command of this binary in a role, as a user and a group and without capabilities.
func as(role string, user, group uint32, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{envRole + "=" + role, "SECRET=x"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: group}}
	return cmd
}

// startVictim starts a process without capabilities that does nothing until the test ends.
func startVictim(t *testing.T, user, group uint32) (pid int) {
	t.Helper()
	victim := as(roleVictim, user, group)
	stdin, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = victim.Wait()
	})
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	return victim.Process.Pid
}

// TestWhatTheAgentCouldDoToOtherProcesses holds docs/agent.md to what the kernel says: hostPID shows the agent all
// processes of the node, and it is user 0 without capabilities.
func TestWhatTheAgentCouldDoToOtherProcesses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// As the kubelet makes its folder and its socket.
	folder := filepath.Join(dir, "pod-resources")
	if err := os.Mkdir(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := os.Chmod(socket, 0o755); err != nil {
		t.Fatal(err)
	}
	container, other := startVictim(t, 0, 0), startVictim(t, 1234, 1234)

	public := []string{"cmdline: yes", "cgroup: yes", "stat: yes", "mountinfo: yes"}
	for _, tc := range []struct {
		name        string
		user, group uint32
		pid         int
		want        []string
	}{
		{
			name: "as shipped, to a container of root without capabilities: signals",
			user: 0, group: agentGroup, pid: container,
			want: append(public[:4:4], "environ: no", "maps: no", "root: no", "signal: yes", "socket: yes"),
		},
		{
			name: "as shipped, to a process of root with capabilities: signals",
			user: 0, group: agentGroup, pid: os.Getpid(),
			want: append(public[:4:4], "environ: no", "maps: no", "root: no", "signal: yes", "socket: yes"),
		},
		{
			name: "as shipped, to a process of another user: nothing",
			user: 0, group: agentGroup, pid: other,
			want: append(public[:4:4], "environ: no", "maps: no", "root: no", "signal: no", "socket: yes"),
		},
		{
			name: "in group 0, to a container of root without capabilities: it could read its memory and its files",
			user: 0, group: 0, pid: container,
			want: append(public[:4:4], "environ: yes", "maps: yes", "root: yes", "signal: yes", "socket: yes"),
		},
		{
			name: "as another user: nothing, but it could not ask the kubelet either",
			user: agentGroup, group: 0, pid: container,
			want: append(public[:4:4], "environ: no", "maps: no", "root: no", "signal: no", "socket: no"),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := as(roleProbe, tc.user, tc.group, strconv.Itoa(tc.pid), socket).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if diff := cmp.Diff(tc.want, strings.Split(strings.TrimSpace(string(out)), "\n")); diff != "" {
				t.Errorf("what it could (-want +got):\n%s", diff)
			}
		})
	}
}
